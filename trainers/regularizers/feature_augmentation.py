"""Shift, mirror, turn or pierce the feature maps of a layer drawn anew for each batch; labels stay as they are.

What augmentation does to images is done to what the network makes of them, an idea of one sentence, so that all of
this is ours. The transforms that are asked for are made, in this order, of every map [c,h,w] that the layer puts out;
an example has one draw for all its channels, other examples have others:

    shift:     by up to p = round(4 h / 32) positions either way, zeros coming in (at 32x32 the usual crop of 4)
    flip:      left to right, with chance 1/2
    rotation:  by an angle uniform in ±15 degrees about the centre, bilinear, zeros coming in
    hole:      zeros in a square of half the side around a uniform position, clipped at the border

With ``layers = ["input"]``, shift and flip are the recipe's own crop and flip. At test time nothing is done.

Defaults: shift and flip, of one of the input and stages 1 and 2, as ``manifold_mixup`` draws them, of every example. A
``flip`` teaches that left and right are the same, as on images: leave it out for digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.corruptions.deformation import Matrix, warped
from robust_eval.fields import Real
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers._changed import ChangesFeatures
from trainers.augment import crop, flip
from trainers.hidden import Change, Layer, draw_layer, through

__all__ = ["FeatureAugmentation"]

Features = Float[Tensor, "n c h w"]
Transform = Literal["shift", "flip", "rotation", "hole"]
DEGREES = 15.0
"""Largest angle of ``rotation``."""


@register("regularizer", "feature_augmentation")
@dataclass(frozen=True, kw_only=True)
class FeatureAugmentation(ChangesFeatures):
    """Loss of batches with the feature maps of one layer augmented."""

    transforms: Annotated[tuple[Transform, ...], Field(min_length=1)] = ("shift", "flip")
    """What is done to a map: ``shift``, ``flip``, ``rotation``, ``hole``."""
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] = ("input", "stage1", "stage2")
    """Layers of which one is drawn for each batch: ``input``, ``stem``, ``stage1``, ..."""
    probability: Annotated[Real, Field(ge=0, le=1)] = 1.0
    """Chance of each example that its map is augmented; 0 is ERM."""

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
        """Return what augments the output of the layer that is drawn, and leaves the others."""
        drawn = draw_layer(self.layers, rng=rng)
        return {layer: partial(self._augment, rng=rng) if layer == drawn else _same for layer in self.layers}

    def _augment(self, h: Features, *, rng: Rng) -> Features:
        known = rng.index is not None and len(rng.index) == len(h)
        # a method over this one may average images into fewer
        rows = rng if known else rng.rows(torch.arange(len(h)))
        made = h
        for name in ("shift", "flip", "rotation", "hole"):
            if name in self.transforms:
                made = _TRANSFORMS[name](made, rng=rows.child(name))
        if self.probability == 1:
            return made
        chosen = rows.child("whether").uniform(device=h.device) < self.probability
        return torch.where(chosen[:, None, None, None], made, h)


def _same(h: Features) -> Features:
    return h


def _shift(h: Features, *, rng: Rng) -> Features:
    return crop(h, round(4 * h.shape[-2] / 32), rng=rng)


def _rotation(h: Features, *, rng: Rng) -> Features:
    angle = (2 * rng.uniform(device=h.device).double() - 1) * math.radians(DEGREES)
    inverse = Matrix(angle.cos(), angle.sin(), -angle.sin(), angle.cos())
    # places need more digits than half precision has
    wide = h.to(torch.promote_types(h.dtype, torch.float32))
    return warped(wide, inverse, interpolation="bilinear").to(h.dtype)


def _hole(h: Features, *, rng: Rng) -> Features:
    inside = []
    for side, fraction in zip(h.shape[-2:], rng.uniform(2, device=h.device).unbind(1), strict=True):
        first = (fraction * side).floor()[:, None] - side // 4
        place = torch.arange(side, device=h.device)
        inside.append((place >= first) & (place < first + side // 2))
    rows, columns = inside
    return h.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


_TRANSFORMS = {"shift": _shift, "flip": flip, "rotation": _rotation, "hole": _hole}
