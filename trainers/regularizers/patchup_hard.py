"""Take blocks of hidden features from another image, and mix the labels by how much was taken.

Faramarzi, Amini, Badrinaaraayanan, Verma and Chandar, "PatchUp: A Feature-Space Block-Level Regularization Technique
for Convolutional Neural Networks", AAAI 2022, https://arxiv.org/abs/2006.07794:

    h' = M * h_i + (1 - M) * h_j,   p = mean(M),   W = p y_i + (1 - p) y_j
    L = p l(f, y_i) + (1 - p) l(f, y_j) + l(f, W)

at a layer drawn anew for each batch. M is zero in blocks of side b around random positions: one mask [c,h,w] and one
permutation for the whole batch. A position seeds a block with chance ``γ f^2 / (b^2 (f - b + 1)^2)``, on a map of side
f, also where the block hangs over the border: γ = 0.5 changes 49 % of a map with f = 32 and 63 % with f = 16. At the
input a box replaces the blocks, as in CutMix with α = 1: there blocks do harm, the authors report. ``at_input =
"blocks"`` has them there too, the last row of their ablation (table 7); that each colour has blocks of its own, as each
channel of a hidden layer, is our reading.

The two halves of L are one number, every loss here being affine in the target. ``loss_terms = 2`` is the published
sum: an ERM step of twice the size, so that mixed batches count double beside unmixed ones. 1 is the control.

Defaults are those of the authors' repository: γ = 0.5, b = 7, 0.7 of the batches mixed, at the input, the stem or
stage 1. Their text has stage 2 as well.

Deviations: the criterion is cross-entropy, as for all regularizers here (theirs: "bce_softmax"). A block shrinks to the
largest odd side that fits; the chance of a seed is that of the map at hand, where the repository keeps the first one it
computed; and the target at the input is W also for Wide ResNets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from robust_eval.fields import Real
from robust_eval.registry import register
from robust_eval.rng import Rng
from trainers._blocks import PatchUp

__all__ = ["PatchUpHard"]


@register("regularizer", "patchup_hard")
@dataclass(frozen=True, kw_only=True)
class PatchUpHard(PatchUp):
    """Loss of batches in which blocks of features are those of other images."""

    gamma: Annotated[Real, Field(ge=0, lt=1)] = 0.5
    """Sets how many blocks there are; the part of the features they cover differs from it."""
    probability: Annotated[Real, Field(ge=0, le=1)] = 0.7
    """Chance that a batch is mixed at all."""

    def own_part(self, rng: Rng) -> float:
        """Return 0: blocks are swapped."""
        return 0.0
