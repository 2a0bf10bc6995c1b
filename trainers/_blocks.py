"""Masks of square blocks in feature maps, as DropBlock and PatchUp draw them, and what both PatchUps share."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from robust_eval.fields import Real, Whole
from robust_eval.mixing import mix, random_box
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers.fitting import Fitting
from trainers.hidden import Layer, draw_layer, through

__all__ = ["Block", "PatchUp", "block_mask", "fitting_block", "seed_rate"]

Features = Float[Tensor, "n c h w"]


def _odd(block: int) -> int:
    if block % 2 == 0:
        raise ValueError(f"expected an odd number, so that a block has a centre, got {block}")
    return block


Block = Annotated[Whole, Field(ge=1), AfterValidator(_odd)]
"""Side of a block, in positions of the feature map."""


def fitting_block(block: int, h: int, w: int) -> int:
    """Return ``block``, or the largest odd side that a feature map of ``h`` by ``w`` has room for."""
    side = min(block, h, w)
    return side - (side % 2 == 0)


def seed_rate(probability: float, h: int, w: int, block: int) -> float:
    """Return how likely a position is to seed a block: ``p h w / (b^2 (h - b + 1) (w - b + 1))``.

    So the blocks whose seeds leave room for all of them cover ``p`` of the map if none overlap. At most ``p``.
    """
    return probability * h * w / (block**2 * (h - block + 1) * (w - block + 1))


def block_mask(
    planes: int, h: int, w: int, block: int, rate: float, generator: torch.Generator, *, everywhere: bool
) -> Bool[Tensor, "planes h w"]:
    """Draw masks that are False in blocks around seeds, each position being one with chance ``rate`` < 1.

    Seeds lie where a whole block fits, or ``everywhere``: blocks are then clipped at the border. The mask is on the
    generator's device.
    """
    # with a margin, a seed everywhere is a seed where the block fits
    margin = block // 2 if everywhere else 0
    tall, wide = h + 2 * margin, w + 2 * margin
    rows, columns = tall - block + 1, wide - block + 1
    # one plane more, for the seeds that come after the last position
    mask = torch.ones(planes + 1, tall, wide, dtype=torch.bool, device=generator.device)
    seeds = _successes(planes * rows * columns, rate, generator)
    corners = seeds // (rows * columns) * (tall * wide) + seeds // columns % rows * wide + seeds % columns
    side = torch.arange(block, device=generator.device)
    square = (side[:, None] * wide + side).flatten()
    mask.view(-1).index_fill_(0, (corners[:, None] + square).flatten(), False)
    return mask[:-1, margin : margin + h, margin : margin + w]


def _successes(trials: int, rate: float, generator: torch.Generator) -> Tensor:
    """Draw the places of the successes among independent trials; what follows them, ``trials`` itself, is no place.

    The gaps between successes are geometric. Drawing those and not every trial pays, as one in hundreds succeeds.
    """
    if rate == 0:
        return torch.full((1,), trials, device=generator.device)
    mean = trials * rate
    # ten standard deviations more than are expected: no place is ever left out
    enough = min(trials, math.ceil(mean + 10 * math.sqrt(mean) + 20))
    u = torch.rand(enough, dtype=torch.float64, generator=generator, device=generator.device)
    gaps = torch.log1p(-u).div_(math.log1p(-rate)).clamp_(max=trials).long()
    return (gaps + 1).cumsum(0).sub_(1).clamp_(max=trials)


@dataclass(frozen=True, kw_only=True)
class PatchUp(Fitting):
    """Loss of batches in which blocks of features come from other images, in all or in part."""

    gamma: Annotated[Real, Field(ge=0, lt=1)]
    """Sets how many blocks there are; the part of the features they cover differs from it."""
    probability: Annotated[Real, Field(ge=0, le=1)]
    """Chance that a batch is mixed at all."""
    block: Block = 7
    """Side of a block, an odd number; where it does not fit, the largest odd one that does."""
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] = ("input", "stem", "stage1")
    """Layers of which one is drawn for each batch: ``input``, ``stem``, ``stage1``, ..."""
    loss_terms: Annotated[Whole, Field(ge=1, le=2)] = 2
    """Terms of the loss, which are equal: 2 as published; 1 has the step size of other methods."""
    at_input: Literal["box", "blocks"] = field(default="box", metadata={"identity": "given"})
    """What is taken of the other image at the input: CutMix's box, or blocks as in hidden layers."""

    @abstractmethod
    def own_part(self, rng: Rng) -> float:
        """Draw the weight of an image's own features inside the blocks of a batch, in [0, 1]."""

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
        """Return the loss of the batch, mixed or not; raises ``ConfigError`` for layers the network does not have."""
        if rng.child("whether").numpy().random() >= self.probability:
            plain = model(x)
            return self.fit(plain, self.targets(y, plain, weights))
        layer = draw_layer(self.layers, rng=rng)
        perm = torch.randperm(len(x), generator=rng.child("perm").torch_generator()).to(x.device)
        own = torch.ones(())

        def patch(h: Features) -> Features:
            nonlocal own
            # float32 whatever h is, as labels are mixed by its mean
            boxed = layer == "input" and self.at_input == "box"
            own = _outside_box(h, rng) if boxed else self._own(h, rng)
            return _swapped(h, perm, own)

        logits = through(model, x, {layer: patch})
        targets = self.targets(y, logits, weights)
        kept = own.mean().to(logits.dtype).expand(len(x))
        return self.loss_terms * self.fit(logits, mix(targets, targets[perm], kept))

    def mix_features(self, h: Features, perm: Int[Tensor, " n"], *, rng: Rng) -> Features:
        """Return hidden features of which row i has blocks that are, in all or in part, those of h[perm[i]]."""
        return _swapped(h, perm, self._own(h, rng))

    def _own(self, h: Features, rng: Rng) -> Float[Tensor, "c h w"]:
        """Weight of own features: 1 outside blocks. One mask for the batch, other blocks in each channel."""
        channels, tall, wide = h.shape[1:]
        block = fitting_block(self.block, tall, wide)
        rate = seed_rate(self.gamma, tall, wide, block)
        generator = rng.child("mask").torch_generator(h.device)
        mask = block_mask(channels, tall, wide, block, rate, generator, everywhere=True)
        return mask.float().clamp(min=self.own_part(rng))


def _swapped(h: Features, perm: Int[Tensor, " n"], own: Float[Tensor, "_ h w"]) -> Features:
    """Weigh own features with those of another image; exact at both ends, where ``own`` is 1 or 0."""
    return torch.lerp(h.index_select(0, perm), h, own.to(h.dtype))


def _outside_box(x: Images, rng: Rng) -> Float[Tensor, "1 h w"]:
    """1 outside CutMix's box, 0 inside."""
    h, w = x.shape[-2:]
    box = random_box(h, w, rng.child("lam").numpy().beta(1, 1), rng.child("box").torch_generator())
    own = torch.ones(1, h, w, device=x.device)
    own[:, box.rows, box.columns] = 0
    return own
