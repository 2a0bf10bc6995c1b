"""Fit the labels and nothing else: the baseline that every regularizer is compared with.

Empirical risk minimisation (Vapnik 1999, "An overview of statistical learning theory"):

    L = 1/n sum_i CE(f(x_i), y_i)

The criterion is its only choice. Crop, flip and weight decay belong to the recipe and are the same for all methods.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers.fitting import Fitting

__all__ = ["ERM"]


@register("regularizer", "erm")
@dataclass(frozen=True, kw_only=True)
class ERM(Fitting):
    """Loss of the images as they are."""

    def loss(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        *,
        rng: Rng,
        progress: float,
        weights: Weights | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean loss of the batch."""
        logits: Logits = model(x)
        return self.fit(logits, self.targets(y, logits, weights))
