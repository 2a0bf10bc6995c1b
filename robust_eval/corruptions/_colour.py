"""What corruptions that know colours share."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from robust_eval.errors import DataError
from robust_eval.types import Images

__all__ = ["channels", "grey", "painted"]

RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Share of each channel in the brightness, by ITU-R BT.601."""


def channels(x: Images) -> int:
    """Return the number of channels, 1 or 3; raises ``DataError`` for any other."""
    if x.shape[1] not in (1, 3):
        raise DataError(f"expected images with 1 (grey) or 3 (RGB) channels, got {x.shape[1]}")
    return x.shape[1]


def grey(x: Images) -> Float[Tensor, "n 1 h w"]:
    """Return the brightness of images with 1 or 3 channels; raises ``DataError`` for any other."""
    if channels(x) == 1:
        return x
    return RED * x[:, :1] + GREEN * x[:, 1:2] + BLUE * x[:, 2:]


def painted(red: int, green: int, blue: int, x: Images) -> Float[Tensor, "c 1 1"]:
    """Return a colour given in 8-bit levels as the images have it: RGB, or its brightness for grey ones."""
    colour = x.new_tensor([red, green, blue]).view(1, 3, 1, 1) / 255
    return (colour if channels(x) == 3 else grey(colour))[0]
