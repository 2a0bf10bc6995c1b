"""Images that are in no file: noise, and others' images at another size."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch.nn import functional

from robust_eval.data._examples import Examples, as_pixels
from robust_eval.errors import DataError
from robust_eval.rng import Rng

__all__ = ["NOISE", "noise", "require_same_shape", "resized"]

Noise = Literal["uniform", "gaussian"]
NOISE: tuple[str, ...] = get_args(Noise)
"""Names of sets of noise, which no file or set can have."""
AT_ONCE = 512


def noise(name: str, n: int, shape: tuple[int, int, int], *, rng: Rng) -> Examples:
    """Return ``n`` images of noise, all labelled 0: uniform on [0, 1), or normal.

    Normal noise is around 0.5 with a standard deviation of 1, clipped to [0, 1], as in Liang et al. 2018 (ODIN,
    arXiv 1706.02690): most values are black or white.
    """
    rng = rng.for_batch(n)
    images = rng.uniform(*shape) if name == "uniform" else (0.5 + rng.normal(*shape)).clamp(0, 1)
    return Examples(images, torch.zeros(n, dtype=torch.int64), 1, f"{name} noise")


def resized(examples: Examples, size: tuple[int, int]) -> Examples:
    """Return the images at another height and width: bilinear, with anti-aliasing where they shrink.

    Raises ``DataError`` for images that do not fit into memory.
    """
    if not isinstance(examples.images, torch.Tensor):
        raise DataError(
            f"{examples.source}: expected images that fit into memory to resize them to {size[0]}x{size[1]}, got "
            f"{len(examples)} in files; resize the files"
        )
    parts = [
        functional.interpolate(as_pixels(part), size, mode="bilinear", antialias=True).clamp(0, 1)
        for part in torch.split(examples.images, AT_ONCE)
    ]
    return replace(examples, images=torch.cat(parts), files_sha256=None)


def require_same_shape(what: str, own: tuple[int, ...], its: tuple[int, ...]) -> None:
    """Raise ``DataError`` where the images of a second set have another shape (c,h,w) than those measured."""
    if own == its:
        return
    way_out = (
        "have them resized (--resize, or resize = true in [[analysis]])"
        if own[0] == its[0]
        else f"give images with {own[0]} {'channel' if own[0] == 1 else 'channels'}"
    )
    raise DataError(
        f"{what}: expected other images of {_size(own)}, as those measured are, got {_size(its)}; {way_out}"
    )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
