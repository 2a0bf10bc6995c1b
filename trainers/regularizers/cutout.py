"""Train on images with a square hole, the labels as they are.

DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017,
https://arxiv.org/abs/1708.04552:

    x' = M * x,   M zero in a square of side L around a uniform pixel, clipped at the border

Zero is meant after normalisation, so a hole has the mean colour: that of the model if it has one
(``Normalized``), else black. As in the authors' code a hole spans ``L // 2`` pixels to both sides of its
centre: an odd L is one less.

Default: L is half the side of the images, which is their 16 for CIFAR-10 (CIFAR-100: 8, SVHN: 20) and does
not hide smaller images whole. Each image has one hole of its own; the comparison in PatchUp's repository has
one for the whole batch, which is weaker: ``per_batch``.

Deviation: the hole is cut after crop and flip here as there, but on the device and not where images are
loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.errors import ConfigError
from robust_eval.fields import Whole
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers.fitting import Fitting

__all__ = ["Cutout"]

Holes = Bool[Tensor, "n_or_1 1 h w"]


@register("regularizer", "cutout")
@dataclass(frozen=True, kw_only=True)
class Cutout(Fitting):
    """Loss of images of which a square is hidden."""

    size: Annotated[Whole, Field(ge=0)] | None = None
    """Side of the hole in pixels, before it is clipped; 0 hides nothing, ``None`` is half the shorter side."""
    per_batch: bool = False
    """Whether all images of a batch have their hole at the same place."""

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
        """Return the mean loss of the batch with holes; raises ``ConfigError`` where they do not fit."""
        side = min(x.shape[-2:])
        size = side // 2 if self.size is None else self.size
        if size > side:
            raise ConfigError(f"cutout: expected size <= {side}, as the images are, got {size}; lower size")
        rows = rng.rows(torch.zeros(1, dtype=torch.int64)) if self.per_batch else rng.for_batch(len(x))
        centres = rows.child("centre").uniform(2, device=x.device)
        logits: Logits = model(torch.where(_holes(x, centres, size // 2), _mean_colour(model, x), x))
        return self.fit(logits, self.targets(y, logits, weights))


def _holes(x: Images, centres: Float[Tensor, "n_or_1 2"], half: int) -> Holes:
    """True in rows and columns ``centre - half`` to ``centre + half - 1``, centres as fractions of a side."""
    inside = []
    for side, fraction in zip(x.shape[-2:], centres.unbind(1), strict=True):
        offset = torch.arange(side, device=x.device) - (fraction * side).floor()[:, None]
        inside.append((offset >= -half) & (offset < half))
    rows, columns = inside
    return rows[:, None, :, None] & columns[:, None, None, :]


def _mean_colour(model: nn.Module, x: Images) -> Float[Tensor, "1 c_or_1 1 1"]:
    mean = getattr(model, "mean", None)
    if isinstance(mean, Tensor) and mean.numel() == x.shape[1]:
        return mean.to(x).view(1, -1, 1, 1)
    return x.new_zeros(1, 1, 1, 1)
