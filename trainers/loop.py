"""Trains a network by a recipe: the one training loop, for every regularizer and curriculum.

A regularizer trains in stages, and each stage has its share of the budget, which is counted in images that
pass through the network. All randomness comes from the recipe's seed, so the same recipe on the same machine
gives the same weights, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from robust_eval.classifier.normalized import Normalized
from robust_eval.data import Examples
from robust_eval.errors import ConfigError, RobustEvalError
from robust_eval.machine import available
from robust_eval.methods import Regularizer, Stage
from robust_eval.models.recipe import NO_JOURNAL, Journal, Recipe, Trained
from robust_eval.models.start import start_from
from robust_eval.rng import Rng, seeded
from trainers.averaging import Average
from trainers.batches import stratified_split
from trainers.curricula.shuffled import Shuffled
from trainers.expected import expect_outputs
from trainers.feed import Feed, task_of
from trainers.freezing import frozen_layers
from trainers.objective import Objective
from trainers.optim import make_optimizer
from trainers.processes import cost_of, mean_of, set_up, started, together
from trainers.schedule import Plateau
from trainers.state import State, identity_of, restore, resume, snapshot
from trainers.steps import Steps
from trainers.usage import Usage
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
    test: Examples | None = None,
) -> Trained:
    """Train by ``recipe`` on a split of ``examples``; ``report(fraction_done, text)`` is called now and then.

    A stage that gives up leaves the rest of its share to the next. One that hands over its best weights gives the next
    those of its highest validation accuracy, the earliest of equals. The network that comes back has the last weights
    of the last stage, or its best ones if the recipe says so. The accuracy on ``test`` images, if they are given, is
    logged; only a curriculum that says so chooses by them. Stages that continue each other share one optimizer and
    one schedule. Images that are in files are decoded while earlier ones are trained on.

    With a folder in the ``journal``, a training that was killed goes on from its last pass, to the same weights.
    Started by ``torchrun``, each process takes its part of every batch, the first one measures and writes, and all
    return the same network. Raises ``RobustEvalError`` when a loss is not finite, ``ConfigError`` when the recipe does
    not fit the data and ``DataError`` for an image file that cannot be read.
    """
    fabric = started(device)
    place, first = fabric.device, fabric.is_global_zero
    rng = Rng(recipe.seed).child("train")
    stages, curriculum = _stages(recipe), recipe.curriculum or Shuffled()
    training, held_out = _divided(recipe, examples, place, rng=rng.child("split"))
    test = None if test is None else _on(place, test)
    batch_size = min(recipe.batch_size, len(training))
    with seeded(rng.child("init")):
        network = _network(recipe, examples).to(place)
    set_mode = frozen_layers(network, recipe.freeze)

    state_file = None if journal.folder is None else journal.folder / "state.pt"
    identity = identity_of(recipe, examples, processes=fabric.world_size)
    kept = None if state_file is None else resume(state_file, identity)
    state = State(Plateau(recipe.patience), Usage.of(len(training))) if kept is None else kept["state"]
    log = Log(journal if first else NO_JOURNAL, state.history)
    watch = rng.child("watch")
    # each process drops out units of its own
    forward = rng.child("forward") if first else rng.child("forward", fabric.global_rank)
    with seeded(forward), _repeatable_convolutions():
        for number, stage in list(enumerate(stages))[state.stage :]:
            goes_on = number > state.stage
            if not (goes_on and stage.continues):
                companion = stage.regularizer.companion(
                    network, len(training), rng=rng.child("companion", number)
                )
                optimizer = set_up(make_optimizer(recipe, network.parameters(), companion), fabric)
                average = Average(network, recipe.ema) if recipe.ema else None
            objective = fabric.setup(Objective(network, stage.regularizer, recipe.precision, companion))
            watched = network if average is None else average.network
            if goes_on:
                state = state.next_stage(continues=stage.continues)
            elif kept is not None:
                restore(kept, objective, optimizer, average)

            stage_rng = rng.child("stage", number)
            cost = cost_of(stage.regularizer, batch_size, fabric)
            task = task_of(training, held_out, batch_size, rng=stage_rng, cost=cost, test=test)
            counted = cost + curriculum.evaluations(task) if recipe.budget == "evaluations" else batch_size
            schedule = state.schedule(recipe, stages, images=len(training), cost=float(counted))
            steps = Steps(recipe, network, objective, optimizer, fabric, schedule, stage_rng, cost)
            feed = Feed(curriculum, task, steps, training, state, held_out=held_out, test=test)
            losses: list[Tensor] = []
            set_mode()

            for step in range(state.step, schedule.steps):
                # a curriculum may have asked more than it was expected to
                if schedule.gives_up(state.waited) or state.is_spent(schedule):
                    break
                lr = schedule.learning_rate(step, state.plateau.halvings)
                steps.set_rate(lr)
                loss = steps.advance(feed.next(step), step)
                if average is not None:
                    average.update(network)
                losses.append(mean_of(loss, fabric))
                if recipe.schedule == "halve_on_plateau":
                    state.plateau.see(losses[-1].item())
                state.evaluations += cost
                state.updates += 1

                ends_pass = schedule.ends_pass(step) or state.is_spent(schedule)
                if ends_pass or (step + 1) % CHECK_EVERY == 0:
                    _require_finite(losses, step, stage.regularizer)
                    text = f"stage {number + 1} of {len(stages)}, loss {losses[-1].item():.4f}"
                    report(schedule.progress(step), text)
                if ends_pass:
                    attack = journal.attacks_after(len(state.history) + 1)
                    found = (
                        measure(watched, training, held_out, attack=attack, rng=watch, test=test)
                        if first
                        else None
                    )
                    mean, losses = torch.stack(losses).mean().item(), []
                    row = {"stage": number, "evaluations": state.spent, "steps": state.updates, "loss": mean}
                    row |= together(found, fabric) | {"lr": lr} | state.usage.end_pass(training.corrupted)
                    feed.remember()
                    state.see(row, step + 1, watched, keep_best=schedule.returned == "best")
                    log.add(row)
                    if state_file is not None and first:
                        snapshot(state_file, identity, state, objective, optimizer, average)

            if not schedule.goes_on:
                weights = state.best_weights or watched.state_dict()
                network.load_state_dict(together(weights, fabric))
            state.end_stage(schedule)

    report(1.0, f"trained with {state.spent} network evaluations in {state.updates} steps")
    used = state.usage.summary(training)
    return Trained(network.eval().requires_grad_(True), state.history, state.spent, state.updates, used)


def _divided(
    recipe: Recipe, examples: Examples, place: torch.device, *, rng: Rng
) -> tuple[Examples, Examples | None]:
    """Return the images to train on and those held out, there; ``ConfigError`` where the recipe needs more."""
    split = stratified_split(examples.labels, recipe.validation, rng=rng)
    if len(split.train) < 2:
        raise ConfigError(
            f"expected at least 2 images to train on, got {len(split.train)} with "
            f"validation={recipe.validation}; give more images"
        )
    stages = recipe.regularizer.stages()
    if not len(split.validation) and any(stage.hand_over == "best" for stage in stages[:-1]):
        raise ConfigError(
            f"{recipe.regularizer!r} goes on from the best validation weights: expected images held out, "
            f"got none with validation={recipe.validation}; raise validation"
        )
    training = _on(place, examples[split.train])
    return training, _on(place, examples[split.validation]) if len(split.validation) else None


def _on(place: torch.device, examples: Examples) -> Examples:
    """Return examples whose pixels come out there; images of more than half of its memory stay where they are."""
    images, free = examples.images, available(place)
    if isinstance(images, Tensor) and (free is None or 2 * images.nbytes <= free):
        images = images.to(place)
    true = None if examples.true_labels is None else examples.true_labels.to(place)
    return replace(examples, images=images, labels=examples.labels.to(place), true_labels=true)


def _network(recipe: Recipe, examples: Examples) -> nn.Module:
    network = recipe.architecture.network(channels=examples.shape[0], classes=examples.classes)
    expect_outputs(recipe.architecture, network, examples.classes)
    if recipe.start is not None:
        start_from(network, recipe.start, architecture=recipe.architecture, head=recipe.start_head)
    if recipe.mean is None or recipe.std is None:
        return network
    return Normalized(network, recipe.mean, recipe.std)


def _stages(recipe: Recipe) -> list[Stage]:
    """Return the stages of a recipe; raises ``ConfigError`` for best weights that the next stage would not take."""
    stages = recipe.regularizer.stages()
    if any(stage.hand_over == "best" and later.continues for stage, later in pairwise(stages)):
        raise ConfigError(
            f"{recipe.regularizer!r}: expected hand_over='last' before a stage that continues, got 'best'; "
            "let the stage begin anew"
        )
    return stages


@contextmanager
def _repeatable_convolutions() -> Iterator[None]:
    """Have cuDNN take algorithms that give the same numbers each time; its other settings stay as they are."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    try:
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _require_finite(losses: list[Tensor], step: int, regularizer: Regularizer) -> None:
    """Raise for the first loss that is NaN or infinite; ``step`` is the one of the last loss."""
    for i, value in enumerate(torch.stack(losses).tolist(), start=step + 1 - len(losses)):
        if not math.isfinite(value):
            raise RobustEvalError(
                f"expected a finite loss, got {value} at step {i} of {regularizer!r}; lower lr"
            )
