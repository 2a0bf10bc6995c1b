"""Counts which training images were chosen, and how much of that went to wrong labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from robust_eval.data import Examples
from robust_eval.methods import Choice

__all__ = ["Usage"]


@dataclass
class Usage:
    """How often each training image was chosen, in the whole training and in the pass that is going on."""

    times: Int[Tensor, " n"]
    in_pass: Int[Tensor, " n"]
    weight_in_pass: Float[Tensor, " n"]
    """What each counted for; the weights of a step have mean 1."""

    @classmethod
    def of(cls, images: int) -> Usage:
        """Return the usage of so many images before the first step."""
        none = torch.zeros(images, dtype=torch.long)
        return cls(none, none.clone(), none.double())

    def see(self, choice: Choice) -> None:
        """Count the images of a step; an image may be in it more than once."""
        rows, one = choice.rows.cpu(), torch.ones(len(choice.rows), dtype=torch.long)
        self.times.index_add_(0, rows, one)
        self.in_pass.index_add_(0, rows, one)
        self.weight_in_pass.index_add_(
            0, rows, (one if choice.weights is None else choice.weights.cpu()).double()
        )

    def end_pass(self, corrupted: Bool[Tensor, " n"] | None) -> dict[str, float]:
        """Return the figures of the pass that ends, and begin another.

        ``used`` is the share of all images that were ever chosen. With noise on the labels, ``wrong_chosen`` is the
        share that wrong labels had among the images of the pass, and ``wrong_weight`` their share of its weight.
        """
        found = {"used": self._used()}
        if corrupted is not None:
            wrong = corrupted.cpu()
            found["wrong_chosen"] = (self.in_pass[wrong].sum() / self.in_pass.sum()).item()
            found["wrong_weight"] = (self.weight_in_pass[wrong].sum() / self.weight_in_pass.sum()).item()
        self.in_pass.zero_()
        self.weight_in_pass.zero_()
        return found

    def summary(self, examples: Examples) -> dict[str, Any]:
        """Return for a card the share of the images ever chosen, and how often those of each class were."""
        by_class = torch.zeros(examples.classes, dtype=torch.long)
        by_class.index_add_(0, examples.labels.cpu(), self.times)
        return {"used": self._used(), "chosen_by_class": by_class.tolist()}

    def _used(self) -> float:
        return (self.times > 0).double().mean().item()
