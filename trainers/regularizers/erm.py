"""Fit the labels and nothing else: the baseline that every regularizer is compared with.

Empirical risk minimisation (Vapnik 1999, "An overview of statistical learning theory"):

    L = 1/n sum_i CE(f(x_i), y_i)

It has no hyper-parameters. Crop, flip and weight decay belong to the recipe and are the same for all methods.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from robust_eval.methods import Regularizer
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels

__all__ = ["ERM"]


@register("regularizer", "erm")
@dataclass(frozen=True, kw_only=True)
class ERM(Regularizer):
    """Cross-entropy of the images as they are."""

    def loss(self, model: nn.Module, x: Images, y: Labels, *, rng: Rng, progress: float) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the batch."""
        return functional.cross_entropy(model(x), y)
