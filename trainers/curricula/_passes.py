"""The batches of shuffled passes over the training images, and those of a pass that are left."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from robust_eval.errors import ConfigError
from robust_eval.methods import Task

__all__ = ["Left", "batches_of", "mean_candidates", "require_batches"]


def batches_of(task: Task, number: int) -> Int[Tensor, "m b"]:
    """Return the batches of a shuffled pass; what is left of it is dropped."""
    generator = task.rng.child("pass", number).torch_generator()
    order = torch.randperm(len(task.labels), generator=generator)
    return order[: task.batches * task.batch_size].view(-1, task.batch_size)


class Left:
    """Batches of the present pass that were not trained on yet; when all were, another pass begins."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._begin(0)

    def draw(self, k: int) -> tuple[Int[Tensor, " j"], Int[Tensor, "j b"]]:
        """Return ``k`` random batches, all if fewer are left: their numbers in the pass, and their images."""
        if not self.left:
            self._begin(self.number + 1)
        # they are shuffled: the first is a random one
        places = torch.arange(min(k, len(self.left)))
        if 1 < k < len(self.left):
            rng = self.task.rng.child("pass", self.number, "left", len(self.left))
            places = torch.randperm(len(self.left), generator=rng.torch_generator())[:k]
        numbers = torch.tensor(self.left)[places]
        return numbers, self.batches[numbers]

    def remove(self, number: int) -> None:
        """Take the batch of this number out."""
        self.left.remove(number)

    def state(self) -> dict[str, Any]:
        """Return which pass it is and which batches are left."""
        return {"number": self.number, "left": list(self.left)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._begin(state["number"])
        self.left = list(state["left"])

    def _begin(self, number: int) -> None:
        self.number = number
        self.batches = batches_of(self.task, number)
        self.left = list(range(len(self.batches)))


def require_batches(name: str, k: int, task: Task) -> None:
    """Raise ``ConfigError`` for more candidates than a pass has batches."""
    if task.batches < 2 <= k:
        raise ConfigError(
            f"{name}: expected two batches or more to choose from, got {len(task.labels)} training images in "
            f"batches of {task.batch_size}; lower batch_size"
        )
    if k > task.batches:
        raise ConfigError(
            f"{name}: expected k of at most {task.batches}, the batches of {len(task.labels)} training images by "
            f"{task.batch_size}, got {k}; lower k or batch_size"
        )


def mean_candidates(k: int, batches: int) -> float:
    """Return how many batches are scored before a step, averaged over a pass; one alone needs no score."""
    return sum(min(k, left) for left in range(1, batches + 1) if min(k, left) > 1) / batches
