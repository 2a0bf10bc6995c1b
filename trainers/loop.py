"""Trains a network by a recipe: the one training loop, for every regularizer.

A regularizer trains in stages, and each stage has its share of the budget, which is counted in images that
pass through the network. All randomness comes from the recipe's seed, so the same recipe on the same machine
gives the same weights, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise, takewhile

import torch
from torch import Tensor, nn

from robust_eval.classifier.normalized import Normalized
from robust_eval.data import Examples
from robust_eval.errors import ConfigError, RobustEvalError
from robust_eval.identity import content_key, file_sha256
from robust_eval.machine import available
from robust_eval.methods import Regularizer, Stage
from robust_eval.models.checkpoint import load_into, read_state
from robust_eval.models.recipe import NO_JOURNAL, Journal, Recipe, Trained
from robust_eval.rng import Rng
from trainers._seeding import seeded
from trainers.averaging import Average
from trainers.batches import Split, augmented, loaded, shuffled_batches, stratified_split
from trainers.freezing import frozen_layers
from trainers.objective import Objective
from trainers.optim import Plateau, learning_rate, make_optimizer
from trainers.processes import mean_of, part_of, set_up, started, together
from trainers.state import STATE, State, restore, resume, snapshot
from trainers.watch import Log, measure

__all__ = ["train"]

CHECK_EVERY = 20
"""Steps between two looks at the loss: each look waits for the device."""


def train(
    recipe: Recipe,
    examples: Examples,
    *,
    device: str,
    report: Callable[[float, str], None],
    journal: Journal = NO_JOURNAL,
) -> Trained:
    """Train by ``recipe`` on a split of ``examples``; ``report(fraction_done, text)`` is called now and then.

    A stage that gives up leaves the rest of its share to the next. One that hands over its best weights gives the next
    those of its highest validation accuracy, the earliest of equals. The network that comes back has the last weights
    of the last stage, or its best ones if the recipe says so. Stages that continue each other share one optimizer and
    one schedule. Images that are in files are decoded while earlier ones are trained on.

    With a folder in the ``journal``, a training that was killed goes on from its last pass, to the same weights.
    Started by ``torchrun``, each process takes its part of every batch, the first one measures and writes, and all
    return the same network. Raises ``RobustEvalError`` when a loss is not finite, ``ConfigError`` when the recipe does
    not fit the data and ``DataError`` for an image file that cannot be read.
    """
    fabric = started(device)
    place, first = fabric.device, fabric.is_global_zero
    rng = Rng(recipe.seed).child("train")
    stages = recipe.regularizer.stages()
    split = stratified_split(examples.labels, recipe.validation, rng=rng.child("split"))
    _check(recipe, stages, split)
    training = _on(place, examples[split.train])
    held_out = _on(place, examples[split.validation]) if len(split.validation) else None
    batch_size = min(recipe.batch_size, len(training))
    with seeded(place, rng.child("init")):
        network = _network(recipe, examples).to(place)
    set_mode = frozen_layers(network, recipe.freeze)

    state_file = None if journal.folder is None else journal.folder / "state.pt"
    start = None if recipe.start is None else file_sha256(recipe.start)
    identity = content_key(
        {
            "state": STATE,
            "recipe": repr(recipe),
            "start": start,
            "data": examples.fingerprint,
            "processes": fabric.world_size,
        }
    )
    kept = resume(state_file, identity, place) if state_file is not None else None
    state = kept["state"] if kept is not None else State()
    log = Log(journal if first else NO_JOURNAL, state.history)
    # each process drops out units of its own
    forward = rng.child("forward") if first else rng.child("forward", fabric.global_rank)
    with seeded(place, forward):
        for number, stage in enumerate(stages):
            if number < state.stage:
                continue
            continuations = list(takewhile(lambda later: later.continues, stages[number + 1 :]))
            objective = fabric.setup(Objective(network, stage.regularizer, recipe.precision))
            if number == state.stage or not stage.continues:
                optimizer = set_up(make_optimizer(recipe, network.parameters()), fabric)
                average = Average(network, recipe.ema) if recipe.ema else None
            watched = network if average is None else average.network
            if kept is not None:
                restore(kept, network, optimizer, average)
                kept = None
            elif number > 0:
                state = state.next_stage(number, continues=stage.continues)
            if state.plateau is None:
                state.plateau = Plateau(recipe.patience)
            here = len(part_of(torch.arange(batch_size), fabric))
            cost = stage.regularizer.evaluations(here) * fabric.world_size
            share, last = stage.share + state.carried, number + 1 == len(stages)
            best = recipe.checkpoint == "best" if last else stage.hand_over == "best"
            steps = max(1, round(share * recipe.epochs * len(training) / cost))
            steps_per_pass = max(1, round(len(training) / cost))
            # the schedule runs over all stages that continue each other, in steps of this one
            earlier = round(steps * (state.done - state.scheduled_from) / share)
            later = round(steps * sum(each.share for each in continuations) / share)
            stage_rng = rng.child("stage", number)
            batches = shuffled_batches(len(training), batch_size, rng=stage_rng)
            indices = (part_of(whole, fabric) for whole in islice(batches, state.step, steps))
            losses: list[Tensor] = []
            set_mode()

            for step, (rows, images, y) in enumerate(loaded(training, indices), start=state.step):
                if not last and stage.give_up_after is not None and state.waited >= stage.give_up_after:
                    break
                progress = state.done + share * step / steps
                lr = learning_rate(recipe, earlier + step, earlier + steps + later, state.plateau.halvings)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                step_rng = stage_rng.child("step", step).rows(rows)
                x = augmented(recipe, images, rng=step_rng)
                loss = objective(x, y, step_rng.child("loss"), progress)
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                if average is not None:
                    average.update(network)
                losses.append(mean_of(loss.detach(), fabric))
                if recipe.schedule == "halve_on_plateau":
                    state.plateau.see(losses[-1].item())
                state.evaluations += cost

                end_of_pass = (step + 1) % steps_per_pass == 0 or step + 1 == steps
                if end_of_pass or (step + 1) % CHECK_EVERY == 0:
                    _require_finite(losses, step, stage.regularizer)
                    report(progress, f"stage {number + 1} of {len(stages)}, loss {losses[-1].item():.4f}")
                if end_of_pass:
                    attack = journal.attacks_after(len(state.history) + 1)
                    watch = rng.child("watch")
                    measured = (
                        measure(watched, training, held_out, attack=attack, rng=watch) if first else None
                    )
                    row = {
                        "stage": number,
                        "evaluations": state.evaluations,
                        "loss": torch.stack(losses).mean().item(),
                        **together(measured, fabric),
                        "lr": lr,
                    }
                    state.see(row, step + 1, watched, keep_best=best)
                    log.add(row)
                    losses = []
                    if state_file is not None and first:
                        snapshot(state_file, identity, state, network, optimizer, average)

            if not continuations:
                weights = state.best_weights if best and state.best_weights else watched.state_dict()
                network.load_state_dict(together(weights, fabric))
            state.carried = share * (1 - state.step / steps)
            state.done += share - state.carried

    report(1.0, f"trained with {state.evaluations} network evaluations")
    return Trained(network.eval().requires_grad_(True), state.history, state.evaluations)


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
    if any(stage.hand_over == "best" and later.continues for stage, later in pairwise(stages)):
        raise ConfigError(
            f"{recipe.regularizer!r}: expected hand_over='last' before a stage that continues, got 'best'; "
            "let the stage begin anew"
        )


def _on(place: torch.device, examples: Examples) -> Examples:
    """Return examples whose pixels come out there; images of more than half of its memory stay where they are."""
    images, free = examples.images, available(place)
    if isinstance(images, Tensor) and (free is None or 2 * images.nbytes <= free):
        images = images.to(place)
    true = None if examples.true_labels is None else examples.true_labels.to(place)
    return replace(examples, images=images, labels=examples.labels.to(place), true_labels=true)


def _network(recipe: Recipe, examples: Examples) -> nn.Module:
    network = recipe.architecture.build(channels=examples.shape[0], classes=examples.classes)
    if recipe.start is not None:
        load_into(network, read_state(recipe.start), source=str(recipe.start))
    if recipe.mean is None or recipe.std is None:
        return network
    return Normalized(network, recipe.mean, recipe.std)


def _require_finite(losses: list[Tensor], step: int, regularizer: Regularizer) -> None:
    """Raise for the first loss that is NaN or infinite; ``step`` is the one of the last loss."""
    for i, value in enumerate(torch.stack(losses).tolist(), start=step + 1 - len(losses)):
        if not math.isfinite(value):
            raise RobustEvalError(
                f"expected a finite loss, got {value} at step {i} of {regularizer!r}; lower lr"
            )
