"""Fit the labels, and all examples of a batch about equally well.

    L = mean_i l_i + c std_i l_i,   l_i the loss of example i

The gradient is that of a weighted mean, example i weighing 1 + c (l_i - mean) / std (with ``unbiased``, the
second term times n / (n - 1)): harder examples count for more, and the loss of those more than std / c below
the mean is pushed up. As a bound on the expected loss the sum is analysed in Duchi and Namkoong,
"Variance-based Regularization with Convex Objectives", https://arxiv.org/abs/1610.02581; here it is a term
of every batch.

Defaults are ours, the proposal names neither: with c = 0.1 all weights are positive unless the mean exceeds
ten standard deviations, and the standard deviation is the unbiased one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Real
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers.fitting import Fitting

__all__ = ["LossStd"]


@register("regularizer", "loss_std")
@dataclass(frozen=True, kw_only=True)
class LossStd(Fitting):
    """Mean of the losses in a batch plus a multiple of their standard deviation."""

    c: Annotated[Real, Field(ge=0)] = 0.1
    """Weight of the standard deviation; 0 is ERM."""
    unbiased: bool = True
    """Whether squares are averaged over ``n - 1``, to estimate the variance beyond the batch."""

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
        """Return mean plus ``c`` standard deviations."""
        logits: Logits = model(x)
        losses = self.each(logits, self.targets(y, logits))
        mean = (losses if weights is None else weights * losses).mean()
        # an example alone has no spread: not 0 / 0
        squares = (losses - mean).square()
        total = (squares if weights is None else weights * squares).sum()
        variance = total / max(len(x) - self.unbiased, 1)
        # the root's slope at 0 is infinite
        return mean + self.c * (variance + 1e-12).sqrt()
