"""Sums over the neighbours of a pixel, the same to the last bit in a batch of any size.

The sums are written out tap by tap. A convolution routine picks its algorithm, and with it the last bit of
the result, by the size of the batch. Wide kernels go through Fourier transforms, one image at a time like the taps.
"""

from __future__ import annotations

from collections.abc import Iterator
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
BLOCK = 16
"""Pixels of a line that are averaged by one small matrix, where a large one would be nearly all zeros."""
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
    (h, w), reach = x.shape[-2:], int(cut * σ + 0.5)
    if min(h, w) >= 2 * (BLOCK + 2 * reach):
        weights = _band(σ, reach).to(x.device)
        turned = _by_block(x.double(), weights, border).transpose(-1, -2).contiguous()
        return _by_block(turned, weights, border).transpose(-1, -2).contiguous()
    rows, columns = (_averages(side, σ, border, cut).to(x.device) for side in (h, w))
    return rows @ x.double() @ columns.T


def _by_block(
    x: Float[Tensor, "*n h w"], weights: Float[Tensor, "block window"], border: Border
) -> Float[Tensor, "*n h w"]:
    """Return planes averaged down their columns."""
    length, (block, window) = x.shape[-2], weights.shape
    places = _places(length, (window - block) // 2, border, rest=-length % block).to(x.device)
    windows = x.index_select(-2, places).unfold(-2, window, block).transpose(-1, -2)
    return (weights @ windows).flatten(-3, -2)[..., :length, :]


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

    total, weighted = torch.zeros_like(x), torch.empty_like(x)
    for band, weights in zip(_bands(padded, 2, h, down), quarter.tolist(), strict=False):
        for part, weight in zip(_bands(band, 3, w, right), weights, strict=False):
            if weight:
                # not in one call: whether a product is rounded before it is added depends on its place in memory
                total += torch.mul(part, weight, out=weighted)
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


def _bands(x: Images, dim: int, length: int, pad: int) -> Iterator[Float[Tensor, "n c h2 w2"]]:
    """Yield the window, and then that shifted one way plus that shifted the other way, for every shift up to ``pad``.

    One overwrites the other.
    """
    yield x.narrow(dim, pad, length)
    if pad:
        band = torch.empty_like(x.narrow(dim, pad, length))
        for shift in range(1, pad + 1):
            yield torch.add(x.narrow(dim, pad - shift, length), x.narrow(dim, pad + shift, length), out=band)


def _places(length: int, pad: int, border: Border, *, rest: int = 0) -> Int[Tensor, " padded"]:
    """Return which pixel stands at each place of a line that goes on for ``pad`` pixels at both ends.

    At the second end it goes on for ``rest`` more.
    """
    place = torch.arange(-pad, length + pad + rest)
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


@lru_cache(maxsize=16)
def _band(σ: float, reach: int) -> Float[Tensor, "block window"]:
    """Return the matrix that averages a block of a line, given with what surrounds it."""
    weights = torch.zeros(BLOCK, BLOCK + 2 * reach, dtype=torch.float64)
    for row in range(BLOCK):
        weights[row, row : row + 2 * reach + 1] = bell(σ, reach)
    return weights
