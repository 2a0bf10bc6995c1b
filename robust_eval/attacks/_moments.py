"""Adam's running moments of a gradient (Kingma and Ba 2015, arXiv 1412.6980)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robust_eval.types import Images

__all__ = ["Moments"]

BETA_1, BETA_2, TINY = 0.9, 0.999, 1e-8


@dataclass
class Moments:
    """Mean and mean square of the gradients taken so far."""

    mean: Images
    square: Images
    taken: int = 0

    @classmethod
    def none(cls, x: Images) -> Moments:
        """Nothing taken yet."""
        return cls(torch.zeros_like(x), torch.zeros_like(x))

    def take(self, gradient: Images) -> tuple[Images, Images]:
        """Return the mean and the root of the mean square, both without the bias of their start at zero."""
        self.taken += 1
        self.mean = BETA_1 * self.mean + (1 - BETA_1) * gradient
        self.square = BETA_2 * self.square + (1 - BETA_2) * gradient.square()
        root = (self.square / (1 - BETA_2**self.taken)).sqrt() + TINY
        return self.mean / (1 - BETA_1**self.taken), root
