"""Enlarging the middle of an image, shared by zoom blur and snow."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from robust_eval.types import Images

__all__ = ["middle", "zoomed"]


def middle(side: int, factor: float) -> int:
    """Return how many pixels in the middle of a side are seen when it is enlarged by ``factor`` >= 1."""
    return math.ceil(side / factor)


def zoomed(x: Images, factor: float, height: int, width: int) -> Float[Tensor, "n c height width"]:
    """Return images of height x width pixels that show the middle of those given, enlarged by ``factor`` >= 1.

    Linear interpolation of the smallest middle that is large enough, its outermost pixels staying outermost; what is
    too much is cut off.
    """
    rows, columns = middle(height, factor), middle(width, factor)
    top, left = (x.shape[2] - rows) // 2, (x.shape[3] - columns) // 2
    size = round(rows * factor), round(columns * factor)
    large = functional.interpolate(
        x[:, :, top : top + rows, left : left + columns], size=size, mode="bilinear", align_corners=True
    )
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, :, top : top + height, left : left + width]
