"""Digital: what processing, compression and scaling do to an image.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261. Contrast, JPEG compression and pixelation are in the
benchmark of fifteen, saturation is one of the four held out for tuning. Nothing is drawn. Contrast and
pixelation take any number of channels, the other two grey or RGB. Results stay in
floating point, where the distributed files are cut to 8 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from robust_eval.corruptions._colour import channels
from robust_eval.corruptions._severity import Published
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["Contrast", "JpegCompression", "Pixelate", "Saturate", "through_jpeg"]


@register("corruption", "contrast")
@dataclass(frozen=True, kw_only=True)
class Contrast(Published):
    """Draw every value towards the mean of its channel.

    ``x' = c (x - m) + m``, m the mean of the image's channel.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, c = 0.4 at side 32.
    Differences from the published operator: none.
    """

    group: ClassVar[str] = "digital"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets c, the fraction of the contrast that is left."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images with less contrast."""
        (kept,) = self.strength("contrast", x)
        mean = _channel_mean(x)
        return kept * (x - mean) + mean


@register("corruption", "saturate")
@dataclass(frozen=True, kw_only=True)
class Saturate(Published):
    """Make the colours paler (severities 1 and 2) or stronger (3 to 5) at the same hue and value.

    ``x' = v (1 - s' k)``, v the maximum and d the range over the channels, ``s' = clip(a d / v + b, 0, 1)``
    the new saturation and ``k = (v - x) / d`` in [0, 1] the hue.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, a = 1.5 and b = 0 at side
    32. Severity is not an order here: at 2 the image is nearly grey, at 3 it is close to the original.
    Differences from the published operator: none; this is its way through HSV, where the hue of a grey pixel
    is red, so that b > 0 tints it (severities 4 and 5). An image with one channel has no colour and is handed
    back as it is.
    Raises ``DataError`` for other than 1 or 3 channels.
    """

    group: ClassVar[str] = "digital"
    severity: Severity = 3
    """Row of the published table, 1 to 5; sets a, a factor, and b, in units of saturation in [0, 1]."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images with their colours scaled."""
        if channels(x) == 1:
            return x
        factor, shift = self.strength("saturate", x)
        value = x.amax(1, keepdim=True)
        span = value - x.amin(1, keepdim=True)
        saturation = torch.where(value > 0, span / value, 0)
        red = x.new_tensor([0, 1, 1])[:, None, None]
        hue = torch.where(span > 0, (value - x) / span, red)
        return value * (1 - (factor * saturation + shift).clamp(0, 1) * hue)


@register("corruption", "jpeg_compression")
@dataclass(frozen=True, kw_only=True)
class JpegCompression(Published):
    """Compress the image as JPEG and read it back.

    ``x' = decode(encode(round(255 x), quality)) / 255`` by the real codec, with the colours stored at half
    the side.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, quality 58 at side 32.
    Differences from the published operator: none; the last bit may change with the JPEG library that Pillow
    was built with. The images are compressed on the CPU, one by one. Raises ``DataError`` for other
    than 1 or 3 channels.
    """

    group: ClassVar[str] = "digital"
    at_once: ClassVar[int] = 1 << 20  # what is done beside the codec is done once
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets the quality, 1 to 100 as libjpeg counts."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images as they come out of the file."""
        (quality,) = self.strength("jpeg_compression", x)
        return through_jpeg(x, int(quality))


@register("corruption", "pixelate")
@dataclass(frozen=True, kw_only=True)
class Pixelate(Published):
    """Scale the image down and back up with square pixels.

    ``x' = box(box(x, ⌊c h⌋, ⌊c w⌋), h, w)``, where box gives each new pixel the plain mean of the old pixels
    whose centres it covers.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, c = 0.85 at side 32.
    Differences from the published operator: the means are not rounded to 8 bits, which moves a value by at
    most 1/255.
    """

    group: ClassVar[str] = "digital"
    at_once: ClassVar[int] = 1 << 19  # many short steps
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets c, the small side as a fraction of the large."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images in coarse pixels."""
        h, w = x.shape[-2:]
        (fraction,) = self.strength("pixelate", x)
        rows, columns = int(h * fraction), int(w * fraction)
        self.needs(math.ceil(1 / fraction), x, name="pixelate")
        # rows are cheaper to pick than columns, so the image is turned for its columns
        turned = _box(x, height=rows).transpose(2, 3).contiguous()
        turned = _box(_box(turned, height=columns), height=w)
        return _box(turned.transpose(2, 3).contiguous(), height=h)


def _channel_mean(x: Images) -> Float[Tensor, "n c 1 1"]:
    # summed as integers: the last bit of a float sum depends on its order, and that on the size of the batch
    total = (x.float() * (1 << 24)).round().long().sum((2, 3), keepdim=True)
    return (total / (x.shape[2] * x.shape[3] << 24)).to(x.dtype)


SMALL = 128 * 128
"""Pixels up to which images are faster to code when they are put together first."""


def through_jpeg(x: Images, quality: int) -> Images:
    """Return the images in [0, 1] as they come out of a JPEG file of this quality, 1 to 100.

    Raises ``DataError`` for other than 1 or 3 channels.
    """
    channels(x)
    if not len(x):
        return x.clone()
    levels = (x * 255).round_().float().cpu().numpy().astype(np.uint8)
    done = (_together if levels[0, 0].size <= SMALL else _each)(levels, quality)
    return torch.empty(x.shape, dtype=x.dtype).copy_(torch.from_numpy(done)).div_(255).to(x.device)


def _together(levels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Put the images [n,c,h,w] above one another: what has to be done beside the codec is done once for all."""
    n, c, h, w = levels.shape
    before = _picture(levels.transpose(1, 0, 2, 3).reshape(c, n * h, w))
    after = Image.new(before.mode, before.size)
    for top in range(0, n * h, h):
        box = (0, top, w, top + h)
        with _coded(before.crop(box), quality) as decoded:
            after.paste(decoded, box)
    return np.stack([np.asarray(plane) for plane in after.split()]).reshape(c, n, h, w).transpose(1, 0, 2, 3)


def _each(levels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Take the images one by one: copies of large ones cost more than a few calls."""
    done = np.empty_like(levels)
    for before, after in zip(levels, done, strict=True):
        with _coded(_picture(before), quality) as decoded:
            for plane, coded in zip(after, decoded.split(), strict=True):
                plane[:] = coded
    return done


def _picture(planes: NDArray[np.uint8]) -> Image.Image:
    pictures = [Image.fromarray(plane) for plane in planes]
    return pictures[0] if len(pictures) == 1 else Image.merge("RGB", pictures)


def _coded(picture: Image.Image, quality: int) -> JpegImageFile:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    file.seek(0)
    return JpegImageFile(file)  # named, the format need not be guessed


class _Cover(NamedTuple):
    """For each new pixel of a line: the first old one whose centre lies under it, and how many do."""

    first: Int[Tensor, " size"]
    number: Float[Tensor, "size 1"]
    further: tuple[Int[Tensor, " some"], ...]
    """The new pixels with a second old one, those with a third, and so on."""


@lru_cache(maxsize=64)
def _cover(length: int, size: int) -> _Cover:
    scale = length / size
    centre = (torch.arange(size).double() + 0.5) * scale
    distance = (torch.arange(length).double() + 0.5 - centre[:, None]) / max(scale, 1.0)
    covered = (distance > -0.5) & (distance <= 0.5)
    first, number = covered.int().argmax(1), covered.sum(1)
    further = tuple((number > i).nonzero()[:, 0] for i in range(1, int(number.max())))
    return _Cover(first, number[:, None].float(), further)


def _box(x: Images, *, height: int) -> Float[Tensor, "n c h2 w"]:
    """Resize the height: each new pixel is the mean of the old ones whose centres lie under it."""
    cover = _cover(x.shape[2], height)
    first = cover.first.to(x.device)
    total = x.index_select(2, first)
    for i, some in enumerate(cover.further, start=1):
        some = some.to(x.device)
        under = x.index_select(2, first[some] + i)
        if len(some) == height:
            total += under
        else:
            total.index_add_(2, some, under)
    return total.div_(cover.number.to(x)) if cover.further else total
