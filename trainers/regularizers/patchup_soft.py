"""Mix blocks of hidden features with those of another image, and mix the labels equally.

Faramarzi, Amini, Badrinaaraayanan, Verma and Chandar, "PatchUp: A Feature-Space Block-Level Regularization Technique
for Convolutional Neural Networks", AAAI 2022, https://arxiv.org/abs/2006.07794:

    h' = M * h_i + (1 - M) * (λ h_i + (1 - λ) h_j),   λ ~ Beta(α, α),   p = mean(M)
    Y = λ y_i + (1 - λ) y_j,   W = p y_i + (1 - p) Y
    L = p l(f, y_i) + (1 - p) l(f, Y) + l(f, W)

at a layer drawn anew for each batch. M is zero in blocks of side b around random positions: one mask [c,h,w], one λ and
one permutation for the whole batch. A position seeds a block with chance ``γ f^2 / (b^2 (f - b + 1)^2)``, on a map of
side f, also where the block hangs over the border: γ = 0.75 changes 64 % of a map with f = 32 and 77 % with f = 16. At
the input a box is swapped instead, as in ``patchup_hard``; with ``at_input = "blocks"`` the pixels of blocks are mixed.

The two halves of L are one number, every loss here being affine in the target. ``loss_terms = 2`` is the published
sum: an ERM step of twice the size. 1 is the control.

Defaults are those of the authors' repository: γ = 0.75, b = 7, α = 2, every batch mixed, at the input, the stem or
stage 1. Their text has stage 2 as well.

Deviations: the criterion is cross-entropy, as for all regularizers here (theirs: "bce_softmax"). A block shrinks to the
largest odd side that fits; the chance of a seed is that of the map at hand, where the repository keeps the first one it
computed; the target at the input is W also for Wide ResNets; and α is a choice, which the repository reads and ignores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from robust_eval.fields import Positive, Real
from robust_eval.registry import register
from robust_eval.rng import Rng
from trainers._blocks import PatchUp

__all__ = ["PatchUpSoft"]


@register("regularizer", "patchup_soft")
@dataclass(frozen=True, kw_only=True)
class PatchUpSoft(PatchUp):
    """Loss of batches in which blocks of features are mixed with those of other images."""

    gamma: Annotated[Real, Field(ge=0, lt=1)] = 0.75
    """Sets how many blocks there are; the part of the features they cover differs from it."""
    probability: Annotated[Real, Field(ge=0, le=1)] = 1.0
    """Chance that a batch is mixed at all."""
    alpha: Positive = 2.0
    """Both parameters of the Beta distribution of λ; the larger, the closer λ is to 1/2."""

    def own_part(self, rng: Rng) -> float:
        """Draw λ."""
        return float(rng.child("lam").numpy().beta(self.alpha, self.alpha))
