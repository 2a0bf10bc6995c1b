"""What a training step costs with each curriculum that looks at losses, over a plain one.

Run from the repository with nothing else running:

    python tests/benchmarks/curriculum_steps.py

A step is all that training does for it: the choice, augmentation (crop and mirror), loss, gradient and SGD with
momentum, on random 32x32 images. The curricula take turns, ``--rounds`` times, each beside a step of shuffled passes;
the ratio is the median over the rounds. Every candidate that is asked for is there: no pass comes near its end.
``loss_delta`` is also timed with the winner's step taken again instead of put back. *Counted* is what a budget of
network evaluations counts for the step, over a plain one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import date
from itertools import count
from typing import Any
from unittest import mock

import torch
from machine import processor

import trainers
from robust_eval.data import Examples
from robust_eval.models.recipe import Recipe
from robust_eval.registry import build
from robust_eval.rng import Rng
from trainers.feed import Feed, task_of
from trainers.objective import Objective
from trainers.optim import make_optimizer
from trainers.processes import cost_of, set_up, started
from trainers.schedule import Plateau
from trainers.state import State
from trainers.steps import Steps
from trainers.trial import Trial
from trainers.usage import Usage

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "small_cnn": ("small_cnn", {}),
    "PreActResNet-18 of width 8": ("preact_resnet18", {"width": 8}),
}

CURRICULA: list[tuple[str, dict[str, Any]]] = [
    ("loss_order", {"k": 8}),
    ("loss_delta", {"k": 8}),
    ("loss_delta", {"k": 8, "reference": "held_out"}),
    ("loss_sampler", {"k": 8}),
    ("loss_threshold", {"k": 2}),
    ("small_loss", {"over": 0.001}),
]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu else time.perf_counter
    assert trainers.train  # importing the package registers the methods
    print(f"{date.today()}, {processor()}, {arguments.threads} threads, torch {torch.__version__}, ", end="")
    print(f"median of {arguments.rounds}{', CPU time' * arguments.cpu}")
    for label in NETWORKS:
        for n in (int(text) for text in arguments.n.split(",")):
            _steps(label, n, arguments.rounds, clock)


def _steps(label: str, n: int, rounds: int, clock: Callable[[], float]) -> None:
    plain, cost = _stepping(label, n, "shuffled", {})
    rows = [(f"{name} {_words(fields)}", *_stepping(label, n, name, fields)) for name, fields in CURRICULA]
    again = _stepping(label, n, "loss_delta", {"k": 8})
    ratios: dict[str, list[float]] = {}
    base = []
    for _ in range(rounds):
        for title, step, _cost in [
            *rows,
            ("loss_delta k=8, stepped again", _taken_again(again[0]), again[1]),
        ]:
            base.append(_timed(plain, clock))
            ratios.setdefault(title, []).append(_timed(step, clock) / base[-1])
    print(f"\n{label}, batches of {n}: a plain step takes {1000 * statistics.median(base):.0f} ms\n")
    print("| curriculum | step over a plain one | lowest and highest | counted |\n|---|---|---|---|")
    counted = {title: found for title, _, found in rows}
    for title, found in ratios.items():
        spread = f"{min(found):.2f} – {max(found):.2f}"
        share = f"{counted[title] / cost:.2f}" if title in counted else ""
        print(f"| {title} | {statistics.median(found):.2f} | {spread} | {share} |", flush=True)


def _stepping(label: str, n: int, name: str, fields: dict[str, Any]) -> tuple[Callable[[], None], float]:
    """Return what takes the next step of a training, and what a step counts for."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64 * n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    training = Examples(images, torch.arange(64 * n) % 10, 10)
    held_out = training.first(512)
    architecture, parts = NETWORKS[label]
    recipe = Recipe(
        architecture=build("architecture", architecture, parts),
        regularizer=build("regularizer", "erm", {}),
        curriculum=build("curriculum", name, fields),
        batch_size=n,
        crop=4,
        flip=True,
    )
    assert recipe.curriculum is not None
    fabric, rng, state = (
        started("cpu"),
        Rng(0).child("stage", 0),
        State(Plateau(300), Usage.of(len(training))),
    )
    network = recipe.architecture.build(channels=3, classes=10).train()
    cost = cost_of(recipe.regularizer, n, fabric)
    task = task_of(training, held_out, n, rng=rng, cost=cost)
    schedule = state.schedule(recipe, recipe.regularizer.stages(), images=len(training), cost=float(cost))
    optimizer = set_up(make_optimizer(recipe, network.parameters()), fabric)
    steps = Steps(
        recipe, network, Objective(network, recipe.regularizer), optimizer, fabric, schedule, rng, cost
    )
    steps.set_rate(0.01)
    if name == "small_loss":
        state.order = {"passes": 1, "place": 0}  # the first pass keeps all, and asks nothing
    feed = Feed(recipe.curriculum, task, steps, training, state, held_out=held_out)
    numbers = count()

    def step() -> None:
        number = next(numbers)
        steps.advance(feed.next(number), number)

    for _ in range(2):
        step()
    return step, cost + recipe.curriculum.evaluations(task)


def _taken_again(step: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with mock.patch.object(Trial, "step_on", lambda trial, choice: None):
            step()

    return run


def _words(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())


def _timed(run: Callable[[], None], clock: Callable[[], float]) -> float:
    started_at = clock()
    run()
    return clock() - started_at


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", default="50,128", help="images in a batch, several with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu", action="store_true", help="CPU time: for a machine in use, with --threads 1")
    return parser.parse_args()


if __name__ == "__main__":
    main()
