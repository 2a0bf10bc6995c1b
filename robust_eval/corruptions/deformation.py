"""Deformation: the image is turned, slanted or scaled about its centre; what was outside of it is black.

The protocol of Verma et al. 2019 (manifold mixup, arXiv 1806.05236, section 5.1) and Faramarzi et al. 2020 (PatchUp,
arXiv 2006.07794) on CIFAR-100: eight sets of the test images, :data:`DEFORMATIONS`. Each image has one draw of its own,
the same for every model. As their numbers were made, by torchvision's ``RandomAffine`` on 8-bit images, a new pixel
takes the value of the ``nearest`` old one. ``bilinear`` means of four are milder: the two must not be compared.

A new pixel at p (from the centre of the image, in pixels) looks at ``A⁻¹ p`` in the old image, where A is the
deformation. Deviation: nothing is rounded to 8 bits, which changes no pixel taken as it is. The first of the two papers
calls a set after the camera (its "zoom in 60 %" shows more than 60 % of the scene); here the field says how large the
content is afterwards.

Any number of channels; images need not be square. There is no severity: a parameter says what is done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from robust_eval.fields import Positive, Real
from robust_eval.methods import Corruption
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images

__all__ = ["DEFORMATIONS", "Rotation", "Scale", "Shear", "warped"]

Interpolation = Literal["nearest", "bilinear"]


@register("corruption", "rotation")
@dataclass(frozen=True, kw_only=True)
class Rotation(Corruption):
    """Turn every image by an angle of its own, uniform in ±``degrees``."""

    group: ClassVar[str] = "deformation"
    sweeps: ClassVar[tuple[str, ...]] = ("degrees",)
    degrees: Annotated[Real, Field(ge=0, le=180)] = 20.0
    """Largest angle in either direction, in degrees; the protocol has 20 and 40."""
    interpolation: Interpolation = "nearest"
    """Whether a new pixel is the nearest old one or a bilinear mean of four."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the turned images."""
        angle = _angle(rng.child("angle"), self.degrees, x)
        inverse = Matrix(angle.cos(), angle.sin(), -angle.sin(), angle.cos())
        return warped(x, inverse, interpolation=self.interpolation)


@register("corruption", "shear")
@dataclass(frozen=True, kw_only=True)
class Shear(Corruption):
    """Slant every image sideways by an angle of its own, uniform in ±``degrees``: a row moves by its height times the
    tangent of the angle.
    """

    group: ClassVar[str] = "deformation"
    sweeps: ClassVar[tuple[str, ...]] = ("degrees",)
    degrees: Annotated[Real, Field(ge=0, lt=90)] = 28.6
    """Largest angle of a vertical line in either direction, in degrees; the protocol has 28.6 and 57.3 (1 radian)."""
    interpolation: Interpolation = "nearest"
    """Whether a new pixel is the nearest old one or a bilinear mean of four."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the slanted images."""
        angle = _angle(rng.child("angle"), self.degrees, x)
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        return warped(x, Matrix(one, angle.tan(), zero, one), interpolation=self.interpolation)


@register("corruption", "scale")
@dataclass(frozen=True, kw_only=True)
class Scale(Corruption):
    """Scale the content of every image by the same factor. Nothing is drawn."""

    group: ClassVar[str] = "deformation"
    sweeps: ClassVar[tuple[str, ...]] = ("content",)
    content: Positive = 0.6
    """Size of the content afterwards, as a fraction of before: below 1 it shrinks and a black frame appears, above 1 it
    grows and its rim is lost. The protocol has 0.6, 0.8, 1.2 and 1.4."""
    interpolation: Interpolation = "nearest"
    """Whether a new pixel is the nearest old one or a bilinear mean of four."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the scaled images."""
        one = torch.ones(len(x), dtype=torch.float64, device=x.device)
        return warped(
            x,
            Matrix(one / self.content, 0 * one, 0 * one, one / self.content),
            interpolation=self.interpolation,
        )


DEFORMATIONS: dict[str, Rotation | Shear | Scale] = {
    "rotated up to 20 degrees": Rotation(degrees=20),
    "rotated up to 40 degrees": Rotation(degrees=40),
    "sheared up to 28.6 degrees": Shear(degrees=28.6),
    "sheared up to 57.3 degrees": Shear(degrees=57.3),
    "content shrunk to 60 %": Scale(content=0.6),
    "content shrunk to 80 %": Scale(content=0.8),
    "content grown to 120 %": Scale(content=1.2),
    "content grown to 140 %": Scale(content=1.4),
}
"""The eight sets of the protocol, by what one sees."""


class Matrix(NamedTuple):
    """Where a new pixel looks, one matrix for each image: ``(xx, xy; yx, yy)``, with y downwards, in float64."""

    xx: Float[Tensor, " n"]
    xy: Float[Tensor, " n"]
    yx: Float[Tensor, " n"]
    yy: Float[Tensor, " n"]


def warped(
    x: Images,
    inverse: Matrix,
    shift: Float[Tensor, "n 2"] | None = None,
    *,
    interpolation: Interpolation,
) -> Images:
    """Return images whose pixel at p has the value of the old one at ``inverse (p - shift)``, black outside of it.

    p and ``shift`` (x to the right, y down) are in pixels, p from the centre of the image.
    """
    n, c, h, w = x.shape
    rows = torch.arange(h, dtype=torch.float64, device=x.device)[:, None] - (h - 1) / 2
    columns = torch.arange(w, dtype=torch.float64, device=x.device)[None, :] - (w - 1) / 2
    across, down = (0, 0) if shift is None else (part.view(n, 1, 1) for part in shift.double().unbind(1))
    columns, rows = columns - across, rows - down
    xx, xy, yx, yy = (part.view(n, 1, 1) for part in inverse)
    # element by element: a matrix product picks its algorithm, and with it the last bit, by the size of the batch
    column = xx * columns + xy * rows + (w - 1) / 2
    row = yx * columns + yy * rows + (h - 1) / 2
    if interpolation == "bilinear":
        place = torch.stack([(2 * column + 1) / w - 1, (2 * row + 1) / h - 1], 3).to(x.dtype)
        return functional.grid_sample(x, place, padding_mode="zeros", align_corners=False)
    # in float64 and by hand, so that a pixel halfway between two looks at the same one on every device
    column, row = ((place + 0.5).floor().long() for place in (column, row))
    outside = (column < 0) | (column >= w) | (row < 0) | (row >= h)
    looked_at = (row * w + column).masked_fill(outside, 0).view(n, 1, h * w).expand(n, c, h * w)
    return x.flatten(2).gather(2, looked_at).view(n, c, h, w).masked_fill(outside[:, None], 0)


def _angle(rng: Rng, degrees: float, x: Images) -> Float[Tensor, " n"]:
    """Return an angle in radians for each image, uniform in ±degrees."""
    return (2 * rng.uniform(1, device=x.device)[:, 0].double() - 1) * math.radians(degrees)
