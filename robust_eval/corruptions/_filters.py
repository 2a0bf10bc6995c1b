"""Sums over the neighbours of a pixel, the same to the last bit in a batch of any size.

The sums are written out tap by tap. A convolution routine picks its algorithm, and with it the last bit of
the result, by the size of the batch. Wide kernels go through Fourier transforms, one image at a time like the taps.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from scipy.fft import next_fast_len
from torch import Tensor

from robust_eval.types import Images

__all__ = ["Border", "averaged", "bell", "beyond", "correlate", "smooth"]

WIDE = 5
"""Reach in pixels in both directions from which on the spectrum is faster than the taps."""
Border = Literal["mirror", "nearest", "reflect"]
"""What lies outside of the image: its inside mirrored without repeating the edge, the edge repeated, or the inside
mirrored with the edge."""


def smooth(x: Images, σ: float, border: Border = "nearest") -> Images:
    """Return the images averaged with normal weights of standard deviation ``σ`` pixels, cut at 4 σ."""
    weights = bell(σ, int(4 * σ + 0.5))
    return correlate(correlate(x, weights[:, None], border), weights[None, :], border)


def averaged(x: Float[Tensor, "*n h w"], σ: float, border: Border, *, cut: float) -> Float[Tensor, "*n h w"]:
    """Return planes averaged like :func:`smooth`, in float64 and in a time that does not grow with ``σ``.

    Its last bit may depend on the size of the batch.
    """
    rows, columns = (_averages(side, σ, border, cut).to(x.device) for side in x.shape[-2:])
    return rows @ x.double() @ columns.T


def bell(σ: float, reach: int) -> Float[Tensor, " k"]:
    """Return normal weights at ``-reach..reach`` that sum to 1."""
    offsets = torch.arange(-reach, reach + 1).double()
    weights = (-(offsets**2) / (2 * σ**2)).exp()
    return weights / weights.sum()


def correlate(x: Images, kernel: Float[Tensor, "ky kx"], border: Border) -> Images:
    """Sum the shifted images. The kernel has odd sides and is symmetric top to bottom and left to right."""
    h, w = x.shape[-2:]
    quarter = kernel[kernel.shape[0] // 2 :, kernel.shape[1] // 2 :]
    down, right = (int(reach) for reach in quarter.nonzero().amax(0))
    padded = beyond(x, down, right, border)
    if min(down, right) >= WIDE:
        return _multiplied(padded, kernel)[..., :h, :w]

    total = torch.zeros_like(x)
    for dy in range(down + 1):
        band = _both(padded, 2, h, down, dy)
        for dx in range(right + 1):
            if quarter[dy, dx]:
                total = total + float(quarter[dy, dx]) * _both(band, 3, w, right, dx)
    return total


def beyond(x: Images, down: int, right: int, border: Border) -> Float[Tensor, "n c h2 w2"]:
    """Return the images with ``down`` more rows above and below and ``right`` more columns at both sides."""
    for dim, pad in ((2, down), (3, right)):
        if pad:
            x = x.index_select(dim, _places(x.shape[dim], pad, border).to(x.device))
    return x


def _multiplied(
    padded: Float[Tensor, "n c h2 w2"], kernel: Float[Tensor, "ky kx"]
) -> Float[Tensor, "n c h3 w3"]:
    """Return the sums by way of the spectrum; those whose taps all lie in the padded image come first."""
    h, w = (next_fast_len(side, real=True) for side in padded.shape[-2:])
    taps = kernel[kernel.any(1)][:, kernel.any(0)].to(padded)
    spectrum = torch.fft.rfft2(taps, s=(h, w)).conj()
    return torch.cat(
        [
            torch.fft.irfft2(torch.fft.rfft2(image, s=(h, w)) * spectrum, s=(h, w))
            for image in torch.split(padded, 1)
        ]
    )


def _both(x: Images, dim: int, length: int, pad: int, shift: int) -> Float[Tensor, "n c h2 w2"]:
    """Return the window shifted one way plus the one shifted the other way; once, where they are the same."""
    if shift == 0:
        return x.narrow(dim, pad, length)
    return x.narrow(dim, pad - shift, length) + x.narrow(dim, pad + shift, length)


def _places(length: int, pad: int, border: Border) -> Int[Tensor, " padded"]:
    """Return which pixel stands at each place of a line that goes on for ``pad`` pixels at both ends."""
    place = torch.arange(-pad, length + pad)
    if border == "nearest":
        return place.clamp(0, length - 1)
    # a far tap may be mirrored more than once
    last = 2 * length - 1 if border == "reflect" else 2 * length - 2
    place = place % (last + (border == "reflect"))
    return torch.minimum(place, last - place)


@lru_cache(maxsize=16)
def _averages(length: int, σ: float, border: Border, cut: float) -> Float[Tensor, "length length"]:
    """Return the matrix that averages a line with normal weights cut at ``cut`` σ."""
    reach = int(cut * σ + 0.5)
    taps = _places(length, reach, border).unfold(0, 2 * reach + 1, 1)
    weights = bell(σ, reach).expand(length, -1).contiguous()
    return torch.zeros(length, length, dtype=torch.float64).scatter_add(1, taps, weights)
