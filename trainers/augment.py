"""Crops and mirrors whole batches where they lie, each image by its own draw."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn import functional

from robust_eval.rng import Rng
from robust_eval.types import Images

__all__ = ["Boxes", "crop", "flip", "random_boxes", "resized_crop"]

SMALLEST = 0.08
"""Least part of the image that a resized crop covers."""
WIDEST = 4 / 3
"""Greatest ratio of its longer to its shorter side."""
TRIES = 10
"""Boxes drawn for an image, of which the first that fits is taken."""

Batch = Shaped[Tensor, "n c h w"]
"""Images as uint8 or float."""


def crop(x: Batch, padding: int, *, rng: Rng) -> Batch:
    """Pad each image with ``padding`` zeros on every side and cut the original size out at a random place."""
    n, _, h, w = x.shape
    padded = functional.pad(x, (padding, padding, padding, padding)).permute(0, 2, 3, 1)
    top, left = rng.for_batch(n).integers(2 * padding + 1, 2, device=x.device).unbind(1)
    rows = top[:, None] + torch.arange(h, device=x.device)
    columns = left[:, None] + torch.arange(w, device=x.device)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip(x: Batch, *, rng: Rng) -> Batch:
    """Mirror each image left to right with probability 1/2."""
    mirrored = rng.for_batch(len(x)).uniform(device=x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def resized_crop(x: Images, *, rng: Rng) -> Images:
    """Cut a box of random size out of each image and resize it to the whole, bilinearly.

    Szegedy et al. 2015, https://arxiv.org/abs/1409.4842, section 6.
    """
    boxes = random_boxes(len(x), *x.shape[2:], rng=rng)
    tall = _resized(x, 2, boxes.top.to(x.device), boxes.height.to(x.device))
    return _resized(tall, 3, boxes.left.to(x.device), boxes.width.to(x.device))


class Boxes(NamedTuple):
    """A box in each image, in whole pixels."""

    top: Int[Tensor, " n"]
    left: Int[Tensor, " n"]
    height: Int[Tensor, " n"]
    width: Int[Tensor, " n"]


def random_boxes(n: int, h: int, w: int, *, rng: Rng) -> Boxes:
    """Draw boxes that cover 8 % to 100 % of images of ``h`` by ``w``, their sides in ratios from 3/4 to 4/3.

    Area and the ratio's logarithm are even. If none of ten fits, it is the largest box in the middle that has an
    allowed ratio, as in torchvision.
    """
    rng = rng.for_batch(n)
    area, shape = rng.child("box").uniform(2, TRIES).double().unbind(1)
    area = h * w * (SMALLEST + (1 - SMALLEST) * area)
    ratio = (math.log(WIDEST) * (2 * shape - 1)).exp()
    heights, widths = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()
    fits = (heights >= 1) & (heights <= h) & (widths >= 1) & (widths <= w)
    first, found = fits.byte().argmax(1, keepdim=True), fits.any(1)
    height = torch.where(found, heights.gather(1, first)[:, 0], min(h, round(w * WIDEST)))
    width = torch.where(found, widths.gather(1, first)[:, 0], min(w, round(h * WIDEST)))
    down, right = rng.child("place").uniform(2).double().unbind(1)
    top = torch.where(found, (down * (h - height + 1)).long(), (h - height) // 2)
    left = torch.where(found, (right * (w - width + 1)).long(), (w - width) // 2)
    return Boxes(top, left, height, width)


def _resized(x: Images, dim: int, start: Int[Tensor, " n"], length: Int[Tensor, " n"]) -> Images:
    """Stretch ``length`` lines from ``start`` on over the whole dimension; what is outside the box is not seen."""
    lines = x.shape[dim]
    shape = [len(x), 1, 1, 1]
    shape[dim] = lines
    at = (torch.arange(lines, device=x.device) + 0.5) * (length[:, None] / lines) - 0.5
    at = torch.minimum(at.clamp(min=0), length[:, None] - 1)
    low = at.floor().long()
    high = torch.minimum(low + 1, length[:, None] - 1)
    first, second = (
        x.gather(dim, (start[:, None] + line).view(shape).expand(x.shape)) for line in (low, high)
    )
    return torch.lerp(first, second, (at - low).view(shape).to(x.dtype))
