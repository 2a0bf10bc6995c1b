"""Digital: what processing, compression and scaling do to an image.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", https://arxiv.org/abs/1903.12261. Contrast, JPEG compression and pixelation are in the
benchmark of fifteen, saturation is one of the four held out for tuning. Nothing is drawn. Contrast and
pixelation take any number of channels, the other two grey or RGB. Results stay in
floating point, where the distributed files are cut to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from robust_eval.corruptions._severity import parameters
from robust_eval.errors import DataError
from robust_eval.methods import Corruption
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["Contrast", "JpegCompression", "Pixelate", "Saturate", "through_jpeg"]


@register("corruption", "contrast")
@dataclass(frozen=True, kw_only=True)
class Contrast(Corruption):
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
        (kept,) = parameters("contrast", min(x.shape[-2:]), self.severity)
        mean = _channel_mean(x)
        return kept * (x - mean) + mean


@register("corruption", "saturate")
@dataclass(frozen=True, kw_only=True)
class Saturate(Corruption):
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
        if _channels(x) == 1:
            return x
        factor, shift = parameters("saturate", min(x.shape[-2:]), self.severity)
        value = x.amax(1, keepdim=True)
        span = value - x.amin(1, keepdim=True)
        saturation = torch.where(value > 0, span / value, 0)
        red = x.new_tensor([0, 1, 1])[:, None, None]
        hue = torch.where(span > 0, (value - x) / span, red)
        return value * (1 - (factor * saturation + shift).clamp(0, 1) * hue)


@register("corruption", "jpeg_compression")
@dataclass(frozen=True, kw_only=True)
class JpegCompression(Corruption):
    """Compress the image as JPEG and read it back.

    ``x' = decode(encode(round(255 x), quality)) / 255`` by the real codec, with the colours stored at half
    the side.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, quality 58 at side 32.
    Differences from the published operator: none; the last bit may change with the JPEG library that Pillow
    was built with. The images are compressed on the CPU, one by one. Raises ``DataError`` for other than 1 or
    3 channels.
    """

    group: ClassVar[str] = "digital"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets the quality, 1 to 100 as libjpeg counts."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images as they come out of the file."""
        (quality,) = parameters("jpeg_compression", min(x.shape[-2:]), self.severity)
        return through_jpeg(x, int(quality))


@register("corruption", "pixelate")
@dataclass(frozen=True, kw_only=True)
class Pixelate(Corruption):
    """Scale the image down and back up with square pixels.

    ``x' = box(box(x, ⌊c h⌋, ⌊c w⌋), h, w)``, where box gives each new pixel the plain mean of the old pixels
    whose centres it covers.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Default: severity 3, c = 0.85 at side 32.
    Differences from the published operator: the means are not rounded to 8 bits, which moves a value by at
    most 1/255.
    """

    group: ClassVar[str] = "digital"
    severity: Severity = 3
    """Row of the published table, 1 (weakest) to 5; sets c, the small side as a fraction of the large."""

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the images in coarse pixels."""
        h, w = x.shape[-2:]
        (fraction,) = parameters("pixelate", min(h, w), self.severity)
        small = _box(_box(x, int(w * fraction), dim=3), int(h * fraction), dim=2)
        return _box(_box(small, w, dim=3), h, dim=2)


def _channels(x: Images) -> int:
    """Return the number of channels, 1 or 3; raises ``DataError`` for any other."""
    if x.shape[1] not in (1, 3):
        raise DataError(f"expected images with 1 (grey) or 3 (RGB) channels, got {x.shape[1]}")
    return x.shape[1]


def _channel_mean(x: Images) -> Float[Tensor, "n c 1 1"]:
    # summed as integers: the last bit of a float sum depends on its order, and that on the size of the batch
    total = (x.float() * (1 << 24)).round().long().sum((2, 3), keepdim=True)
    return (total / (x.shape[2] * x.shape[3] << 24)).to(x.dtype)


def through_jpeg(x: Images, quality: int) -> Images:
    """Return the images in [0, 1] as they come out of a JPEG file of this quality, 1 to 100.

    Raises ``DataError`` for other than 1 or 3 channels.
    """
    _channels(x)
    if not len(x):
        return x.clone()
    pixels = (x * 255).round().to(torch.uint8).cpu()
    return torch.stack([_through_jpeg(image, quality) for image in pixels]).to(x) / 255


def _through_jpeg(image: UInt8[Tensor, "c h w"], quality: int) -> UInt8[Tensor, "c h w"]:
    file = BytesIO()
    pixels = image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels if len(image) == 3 else pixels[..., 0]).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return torch.from_numpy(np.array(decoded).reshape(pixels.shape)).permute(2, 0, 1)


def _box(x: Images, size: int, *, dim: int) -> Float[Tensor, "n c h2 w2"]:
    """Resize one dimension: each new pixel is the mean of the old ones whose centres lie under it."""
    length = x.shape[dim]
    scale = length / size
    centre = (torch.arange(size).double() + 0.5) * scale
    distance = (torch.arange(length).double() + 0.5 - centre[:, None]) / max(scale, 1.0)
    covered = (distance > -0.5) & (distance <= 0.5)
    first, count = covered.int().argmax(1), covered.sum(1)

    shape = [1, 1, 1, 1]
    shape[dim] = size
    total = x.index_select(dim, first.to(x.device))
    for offset in range(1, int(count.max())):
        place = (first + offset).clamp(max=length - 1).to(x.device)
        inside = (offset < count).view(shape).to(x)
        total = total + inside * x.index_select(dim, place)
    return total / count.view(shape).to(x)
