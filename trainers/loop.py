"""Trains a network by a recipe: the one training loop, for every regularizer.

A regularizer trains in stages, and each stage has its share of the budget, which is counted in images that
pass through the network. All randomness comes from the recipe's seed, so the same recipe on the same machine
gives the same weights, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from robust_eval.classifier import Classifier
from robust_eval.data import Examples
from robust_eval.errors import ConfigError, RobustEvalError
from robust_eval.methods import Regularizer, Stage
from robust_eval.normalized import Normalized
from robust_eval.recipe import Recipe, Trained
from robust_eval.rng import Rng
from trainers._seeding import seeded
from trainers.batches import Split, load, shuffled_batches, stratified_split
from trainers.objective import Objective
from trainers.optim import learning_rate, make_optimizer

__all__ = ["train"]

CHECK_EVERY = 20
"""Steps between two looks at the loss: each look waits for the device."""


def train(
    recipe: Recipe, examples: Examples, *, device: str, report: Callable[[float, str], None]
) -> Trained:
    """Train by ``recipe`` on a split of ``examples``; ``report(fraction_done, text)`` is called now and then.

    A stage that hands over its best weights gives the next one those of its highest validation accuracy, the
    earliest of equals. The network that comes back has the last weights of the last stage. Raises
    ``RobustEvalError`` when a loss is not finite and ``ConfigError`` when the recipe does not fit the data.
    """
    from lightning_fabric import Fabric  # slow to import, and only training needs it

    named = torch.device(device)
    fabric = Fabric(accelerator=named.type, devices=1 if named.index is None else [named.index])
    place = fabric.device
    rng = Rng(recipe.seed).child("train")
    stages = recipe.regularizer.stages()
    split = stratified_split(examples.labels, recipe.validation, rng=rng.child("split"))
    _check(recipe, stages, split)
    training = _on(place, examples[split.train])
    held_out = _on(place, examples[split.validation]) if len(split.validation) else None
    batch_size = min(recipe.batch_size, len(training))
    with seeded(place, rng.child("init")):
        network = _network(recipe, examples).to(place).train()

    weights = _copy(network)
    history: list[dict[str, Any]] = []
    evaluations, done = 0, 0.0
    with seeded(place, rng.child("forward")):
        for number, stage in enumerate(stages):
            network.load_state_dict(weights)
            objective, optimizer = fabric.setup(
                Objective(network, stage.regularizer), make_optimizer(recipe, network.parameters())
            )
            cost = stage.regularizer.evaluations(batch_size)
            steps = max(1, round(stage.share * recipe.epochs * len(training) / cost))
            steps_per_pass = max(1, round(len(training) / cost))
            stage_rng = rng.child("stage", number)
            batches = shuffled_batches(len(training), batch_size, rng=stage_rng)
            best, losses = -math.inf, []

            for step, index in enumerate(islice(batches, steps)):
                progress = done + stage.share * step / steps
                lr = learning_rate(recipe, step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                step_rng = stage_rng.child("step", step).rows(index)
                x, y = load(recipe, training, index, rng=step_rng)
                loss = objective(x, y, step_rng.child("loss"), progress)
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                losses.append(loss.detach())
                evaluations += cost

                end_of_pass = (step + 1) % steps_per_pass == 0 or step + 1 == steps
                if end_of_pass or (step + 1) % CHECK_EVERY == 0:
                    _require_finite(losses, step, stage.regularizer)
                    report(progress, f"stage {number + 1} of {len(stages)}, loss {losses[-1].item():.4f}")
                if end_of_pass:
                    accuracy = None if held_out is None else _accuracy(network, held_out)
                    if stage.hand_over == "best" and accuracy is not None and accuracy > best:
                        best, weights = accuracy, _copy(network)
                    history.append(
                        {
                            "stage": number,
                            "evaluations": evaluations,
                            "loss": torch.stack(losses).mean().item(),
                            "validation_accuracy": accuracy,
                            "lr": lr,
                        }
                    )
                    losses = []
            if stage.hand_over == "last":
                weights = _copy(network)
            done += stage.share

    report(1.0, f"trained with {evaluations} network evaluations")
    return Trained(network.eval(), history, evaluations)


def _check(recipe: Recipe, stages: list[Stage], split: Split) -> None:
    if len(split.train) < 2:
        raise ConfigError(
            f"expected at least 2 images to train on, got {len(split.train)} with "
            f"validation={recipe.validation}; give more images"
        )
    if not len(split.validation) and any(stage.hand_over == "best" for stage in stages[:-1]):
        raise ConfigError(
            f"{recipe.regularizer!r} goes on from the best validation weights: expected images held out, "
            f"got none with validation={recipe.validation}; raise validation"
        )


def _on(place: torch.device, examples: Examples) -> Examples:
    images, labels = examples.images.to(place), examples.labels.to(place)
    return Examples(images, labels, examples.classes, examples.source)


def _network(recipe: Recipe, examples: Examples) -> nn.Module:
    network = recipe.architecture.build(channels=examples.shape[0], classes=examples.classes)
    if recipe.mean is None or recipe.std is None:
        return network
    return Normalized(network, recipe.mean, recipe.std)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _require_finite(losses: list[Tensor], step: int, regularizer: Regularizer) -> None:
    """Raise for the first loss that is NaN or infinite; ``step`` is the one of the last loss."""
    for i, value in enumerate(torch.stack(losses).tolist(), start=step + 1 - len(losses)):
        if not math.isfinite(value):
            raise RobustEvalError(
                f"expected a finite loss, got {value} at step {i} of {regularizer!r}; lower lr"
            )


def _accuracy(network: nn.Module, held_out: Examples, batch_size: int = 512) -> float:
    model, correct = Classifier(network, batch_size=batch_size), 0
    for start in range(0, len(held_out), batch_size):
        part = slice(start, start + batch_size)
        logits = model.logits(held_out.pixels(part))
        correct += int((logits.argmax(1) == held_out.labels[part]).sum())
    return correct / len(held_out)
