"""What the residual networks share: a layer of blocks, and the head that averages over all positions."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.types import Logits

__all__ = ["Features", "classify", "conv3x3", "head", "layer"]

Features = Float[Tensor, "n _ _ _"]
"""Feature maps [n, channels, height, width]; a layer may change all but ``n``."""


def conv3x3(c_in: int, c_out: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the side at stride 1."""
    return nn.Conv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1, bias=bias)


def layer(
    block: Callable[[int, int, int], nn.Module], count: int, c_in: int, c_out: int, *, stride: int
) -> nn.Sequential:
    """Return ``count`` blocks in a row, made by ``block(c_in, c_out, stride)``; the first one strides."""
    first = block(c_in, c_out, stride)
    return nn.Sequential(first, *(block(c_out, c_out, 1) for _ in range(count - 1)))


def classify(linear: nn.Linear, h: Features) -> Logits:
    """Average over all positions, whatever the side; at 32x32 it is the published pooling of 4x4 or 8x8."""
    logits: Logits = linear(F.adaptive_avg_pool2d(h, 1).flatten(1))
    return logits


def head(linear: nn.Linear, *before: nn.Module) -> nn.Sequential:
    """Return :func:`classify` as a module that owns nothing new, with modules applied ``before`` it."""
    return nn.Sequential(*before, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), linear)
