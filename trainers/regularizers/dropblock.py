"""Set square blocks of hidden features to zero, more of them as training goes on.

Ghiasi, Lin and Le, "DropBlock: A regularization method for convolutional networks", NeurIPS 2018,
https://arxiv.org/abs/1810.12890, algorithm 1 and equation 1:

    h' = M * h * count(M) / count_ones(M),   γ = p_t / b^2 * f^2 / (f - b + 1)^2,   p_t = p t

M is zero in blocks of side b around seeds, other ones for each example and channel. On a map of side f each position
where a whole block fits is a seed with chance γ; t in [0, 1] is how much of the training is done. Blocks overlap, so
that a little less than p_t is dropped: 9.4 % for p = 0.1, b = 7 and f = 32. At test time nothing is.

Defaults: b = 7 and p = 0.1, the paper's on ImageNet, after stem and stage 1, where PatchUp's repository has them on
CIFAR. That repository drops at full strength from the start (``schedule = "constant"``) and lets blocks hang over the
border (``seeds = "everywhere"``): it drops 13 % with f = 32, 62 % with f = 8.

Deviations: the paper drops after convolutions and on skip connections, inside the last two groups of blocks; here it is
the output of a stage, as any network has. A block shrinks to the largest odd side that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Real
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers._blocks import Block, block_mask, fitting_block, seed_rate
from trainers._changed import ChangesFeatures
from trainers.hidden import Change, Hidden, Layer, through

__all__ = ["DropBlock"]

Features = Float[Tensor, "n c h w"]
# not the input: rescaled, its pixels would leave [0, 1]


@register("regularizer", "dropblock")
@dataclass(frozen=True, kw_only=True)
class DropBlock(ChangesFeatures):
    """Loss with blocks of hidden features set to zero."""

    probability: Annotated[Real, Field(ge=0, lt=1)] = 0.1
    """Part of the features that is dropped in the end, if no blocks overlap; 0 is ERM."""
    block: Block = 7
    """Side of a block, an odd number; where it does not fit, the largest odd one that does."""
    layers: Annotated[tuple[Hidden, ...], Field(min_length=1)] = ("stem", "stage1")
    """Layers whose output loses blocks, all in every batch: ``stem``, ``stage1``, ..."""
    schedule: Literal["linear", "constant"] = "linear"
    """Whether the part that is dropped grows from 0 in proportion to progress, or is the same throughout."""
    seeds: Literal["inside", "everywhere"] = "inside"
    """Whether blocks lie whole in the map, or may hang over its border."""

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
        """Return the mean loss of the batch; raises ``ConfigError`` for layers the network does not have."""
        logits = through(model, x, self.changes(rng=rng, progress=progress))
        return self.fit(logits, self.targets(y, logits, weights))

    def changes(self, *, rng: Rng, progress: float) -> Mapping[Layer, Change]:
        """Return what sets blocks of each layer's output to zero."""
        p = self.probability * (progress if self.schedule == "linear" else 1)
        return {
            layer: partial(self._drop, probability=p, rng=rng.child("mask", layer)) for layer in self.layers
        }

    def _drop(self, h: Features, *, probability: float, rng: Rng) -> Features:
        n, channels, tall, wide = h.shape
        block = fitting_block(self.block, tall, wide)
        rate = seed_rate(probability, tall, wide, block)
        everywhere = self.seeds == "everywhere"
        generator = rng.torch_generator(h.device)
        mask = block_mask(n * channels, tall, wide, block, rate, generator, everywhere=everywhere).view(
            h.shape
        )
        # what the draw has kept, not what was to be expected; all may be dropped
        scale = mask.numel() / mask.count_nonzero().clamp(min=1)
        # one byte for a feature is all that the backward pass keeps
        return torch.where(mask, h, 0).mul_(scale)
