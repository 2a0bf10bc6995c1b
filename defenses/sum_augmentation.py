"""Average the predictions for several sums of the image with training images (test-time sum augmentation).

Each of C copies is ``a₀ x + a₁ Σ_{j=1}^{K−1} r_j`` with ``r_j`` drawn uniformly from the pool, ``a₀ = λ / (λ + K − 1)``
and ``a₁ = 1 / (λ + K − 1)``; the C probability vectors are averaged. λ = 2 gives the image twice the weight of another.

Defaults: λ = 1, K = 4, C = 16. Deviations: coefficients are normalised to sum 1 (those printed, λ/K and 1/K, do so
only for λ = 1), probabilities are averaged rather than logits, and the pool is training data, without the
images under test.

Known limit: the perturbation is scaled by ``a₀``, but so is the signal. Accuracy against attacks made without the
defense says little: judge it by the adaptive attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from defenses._averaged import Pooled, average
from robust_eval.data import Examples
from robust_eval.fields import Positive, Whole
from robust_eval.methods import Defense
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Logits

__all__ = ["SumAugmentation"]


@register("defense", "sum_augmentation")
@dataclass(frozen=True, kw_only=True)
class SumAugmentation(Defense):
    """Test-time sum augmentation."""

    needs_pool: ClassVar[bool] = True

    lam: Positive = 1.0
    """Weight λ of the image relative to each image mixed in."""
    k: Annotated[Whole, Field(ge=1)] = 4
    """Images in a sum, the tested one among them."""
    copies: Annotated[Whole, Field(ge=1)] = 16
    """Sums whose probabilities are averaged."""

    def wrap(self, network: nn.Module, pool: Examples | None = None) -> Pooled:
        """Return the defended model; see :class:`robust_eval.methods.Defense`."""
        return _Summed(network, pool, self)


class _Summed(Pooled):
    def __init__(self, network: nn.Module, pool: Examples | None, method: SumAugmentation) -> None:
        super().__init__(network, pool, method.copies)
        self.method = method

    def average(self, x: Images, rng: Rng) -> Logits:
        lam, k, copies = self.method.lam, self.method.k, self.method.copies
        index = rng.child("pool").integers(len(self.pool), copies * (k - 1), device=x.device)
        others = self.pool.take(index).reshape(len(x), copies, k - 1, *x.shape[1:]).sum(2)
        return average(self.network, (lam * x[:, None] + others.to(x.dtype)) / (lam + k - 1), rng)
