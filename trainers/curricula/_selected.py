"""Passes over a part of the training images that is selected by what the network makes of them, now and then anew."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.errors import ConfigError
from robust_eval.fields import Whole
from robust_eval.methods import Choice, Curriculum, Order, Task, Trial
from robust_eval.rng import Rng
from trainers.curricula._vectors import Space, Vectors, vectors

__all__ = ["Laid", "Selecting", "Selection", "by_class", "order_of"]


@dataclass(frozen=True, kw_only=True)
class Selecting(Curriculum):
    """What the curricula that select share."""

    space: Space = "feature"
    """Distances are those of the last features, of the gradients in the logits, or of those in the last layer's
    weights."""
    after: Annotated[Whole, Field(ge=0)] = 0
    """Shuffled passes over all images before the first selection."""
    every: Annotated[Whole, Field(ge=0)] = 1
    """Passes over a selection until the next; 0 keeps the first."""

    @abstractmethod
    def select(self, trial: Trial, task: Task, *, first: bool) -> Selection:
        """Select by what the network makes of the images, for the ``first`` time or again."""

    @abstractmethod
    def lay(self, selection: Selection, rng: Rng) -> Laid:
        """Return the images of a pass over the selection, in order."""


class Selection(NamedTuple):
    """What was selected in each class."""

    rows: Int[Tensor, " m"]
    """Positions in the training set."""
    weights: Float[Tensor, " m"]
    group: Int[Tensor, " m"]
    """What each belongs to, numbered from 0: its class, or its cluster."""


class Laid(NamedTuple):
    """A pass over a selection, in order."""

    rows: Int[Tensor, " m"]
    weights: Float[Tensor, " m"]


def order_of(method: Selecting, task: Task, name: str) -> Order:
    """Return the order of a stage; raises ``ConfigError`` for a class without images."""
    present = torch.bincount(task.labels, minlength=task.classes)
    if absent := (present == 0).nonzero()[:, 0].tolist():
        raise ConfigError(
            f"{name}: expected at least one training image of each class to select from, got none of class "
            f"{', '.join(map(str, absent[:10]))}{', ...' if len(absent) > 10 else ''}; "
            "give images of each, or number the classes without gaps"
        )
    return _Selected(method, task)


class _Selected(Order):
    """Batches are cut from pass after pass; one may hold the end of a pass and the beginning of the next."""

    def __init__(self, method: Selecting, task: Task) -> None:
        self.method, self.task = method, task
        self.number = 0
        self.selection: Selection | None = None
        self.left = Laid(torch.empty(0, dtype=torch.long), torch.empty(0))

    def next(self, trial: Trial) -> Choice:
        size = self.task.batch_size
        while len(self.left.rows) < size:
            begun = self._begin(trial)
            self.left = Laid(*(torch.cat(parts) for parts in zip(self.left, begun, strict=True)))
        now, self.left = (
            Laid(*(part[:size] for part in self.left)),
            Laid(*(part[size:] for part in self.left)),
        )
        return Choice(now.rows, now.weights if self.method.weighs else None)

    def state(self) -> dict[str, Any]:
        selection = None if self.selection is None else list(self.selection)
        return {"number": self.number, "selection": selection, "left": list(self.left)}

    def restore(self, state: dict[str, Any]) -> None:
        self.number, self.left = state["number"], Laid(*state["left"])
        self.selection = None if state["selection"] is None else Selection(*state["selection"])

    def follow(self, state: dict[str, Any]) -> None:
        self.number = state["number"]
        self.selection = None if state["selection"] is None else Selection(*state["selection"])

    def _begin(self, trial: Trial) -> Laid:
        rng, since = self.task.rng.child("pass", self.number), self.number - self.method.after
        self.number += 1
        if since < 0:
            order = torch.randperm(len(self.task.labels), generator=rng.torch_generator())
            return Laid(order, torch.ones(len(order)))
        if self.selection is None or (self.method.every and since % self.method.every == 0):
            self.selection = self.method.select(trial, self.task, first=self.selection is None)
        return self.method.lay(self.selection, rng)


def by_class(trial: Trial, task: Task, space: Space) -> Iterator[tuple[Int[Tensor, " c"], Vectors]]:
    """Give the positions of the images of each class, by their given labels, and their vectors."""
    outputs = trial.outputs()
    for label in range(task.classes):
        rows = (task.labels == label).nonzero()[:, 0]
        yield rows, vectors(space, outputs.features[rows], outputs.logits[rows], task.labels[rows])
