"""Measures a network between two passes over the training data, and writes the rows down."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_eval.classifier import Classifier, frozen
from robust_eval.data import Examples
from robust_eval.errors import ConfigError, DataError
from robust_eval.metrics.memorisation import PARTS
from robust_eval.models.recipe import Journal
from robust_eval.paths import what_is
from robust_eval.registry import build
from robust_eval.rng import Rng

__all__ = ["Log", "accuracy", "measure"]

ATTACKED = 128
"""Held-out images that are attacked for a row."""
ATTACK = {"eps": 8 / 255, "steps": 10}
"""PGD as training watches it: a hint of what an evaluation will say, not an evaluation."""
REMEMBERED = 1000
"""Training images with untouched labels, and as many with wrong ones, on which memorising is measured for a row."""


def measure(
    network: nn.Module,
    training: Examples,
    held_out: Examples | None,
    *,
    attack: bool,
    rng: Rng,
    test: Examples | None = None,
) -> dict[str, float | None]:
    """Return the accuracies and the weight norm of a network; it is left as it was.

    Training accuracy is that of as many training images as are held out, not augmented; that on test images is there
    where they are given. Images are held out of a training set with noise too, so their labels are as noisy. Where
    labels were replaced by noise, there is one for the part with wrong labels and one for the rest, both against the
    labels trained on: at most ``REMEMBERED`` images of each, the same ones at each call with this ``rng``.
    """
    few = training.first(min(len(training), len(held_out) if held_out is not None else ATTACKED))
    squares = [weight.detach().double().square().sum() for weight in network.parameters()]
    return {
        "train_accuracy": accuracy(network, few),
        "validation_accuracy": None if held_out is None else accuracy(network, held_out),
        **({} if test is None else {"test_accuracy": accuracy(network, test)}),
        "robust_accuracy": _under_attack(network, held_out, rng) if attack and held_out is not None else None,
        **_memorised(network, training, rng.child("memorised")),
        "weight_norm": math.sqrt(torch.stack(squares).sum().item()),
    }


def accuracy(network: nn.Module, examples: Examples, batch_size: int = 512) -> float:
    """Return the share of images whose label is predicted."""
    # a faster twin would have to be made anew each time
    model, correct = Classifier(network, batch_size=batch_size, accelerate=False), 0
    parts = [slice(start, start + batch_size) for start in range(0, len(examples), batch_size)]
    with frozen(network):
        for part, x in zip(parts, examples.batches(parts), strict=True):
            correct += int((model.logits(x).argmax(1) == examples.labels[part]).sum())
    return correct / len(examples)


def _memorised(network: nn.Module, training: Examples, rng: Rng) -> dict[str, float | None]:
    """Return the accuracy on each part of noisy training labels, ``None`` for an empty one; nothing without noise."""
    if training.corrupted is None:
        return {}
    found: dict[str, float | None] = {}
    for part, chosen in zip(PARTS, (~training.corrupted, training.corrupted), strict=True):
        rows = chosen.nonzero()[:, 0].cpu()
        drawn = torch.randperm(len(rows), generator=rng.child(part).torch_generator())[:REMEMBERED]
        some = rows[drawn].sort().values
        found[f"{part}_accuracy"] = accuracy(network, training[some]) if len(some) else None
    return found


def _under_attack(network: nn.Module, held_out: Examples, rng: Rng) -> float:
    few = held_out.first(min(len(held_out), ATTACKED))
    x, model = few.pixels(), Classifier(network)
    with frozen(network):
        x_adv = build("attack", "pgd", ATTACK)(model, x, few.labels, rng=rng)
        return float((model.logits(x_adv).argmax(1) == few.labels).double().mean())


class Log:
    """``log.csv`` and, if asked for, TensorBoard's events: one row for each pass."""

    def __init__(self, journal: Journal, rows: list[dict[str, Any]]) -> None:
        self.path = None if journal.folder is None else journal.folder / "log.csv"
        self._writer = _tensorboard(journal.folder) if journal.tensorboard and journal.folder else None
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if (lies := what_is(self.path)) not in ("a file", "none"):
                raise DataError(f"{self.path}: expected a file, got {lies}; remove it and start again")
            # what was written after the state that is resumed from is written again
            self._rewrite(rows)

    def add(self, row: dict[str, Any]) -> None:
        """Write a row down at once."""
        if self.path is not None:
            new = not self.path.exists() or not self.path.stat().st_size
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
        if self._writer is not None:
            for name, value in row.items():
                if value is not None and name not in ("stage", "evaluations"):
                    self._writer.add_scalar(name, value, row["evaluations"])
            self._writer.flush()

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        assert self.path is not None
        with self.path.open("w", newline="", encoding="utf-8") as file:
            if rows:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "tensorboard: expected the package tensorboard, got none installed; pip install '.[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder))
