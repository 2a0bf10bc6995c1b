"""What the residual networks share: a layer of blocks, shortcuts, and the head that averages over all positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.fields import Width
from robust_eval.types import Logits

__all__ = [
    "Blocks",
    "Count",
    "Features",
    "Padding",
    "Shortcut",
    "blocks_per_layer",
    "classify",
    "conv1x1",
    "conv3x3",
    "draw_as_he",
    "head",
    "layer",
]

Features = Float[Tensor, "n _ _ _"]
"""Feature maps [n, channels, height, width]; a layer may change all but ``n``."""
Count = Width
Blocks = tuple[Count, Count, Count, Count]
"""Blocks in each of four layers."""
Shortcut = Literal["projection", "padding"]
"""What a shortcut that changes shape does: a 1x1 convolution, or every other pixel with channels of zeros added."""


def conv1x1(c_in: int, c_out: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Return a 1x1 convolution."""
    return nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=bias)


def conv3x3(c_in: int, c_out: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the side at stride 1."""
    return nn.Conv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1, bias=bias)


class Padding(nn.Module):
    """A shortcut without weights (He et al. 2016, arXiv 1512.03385, option A): subsamples, and adds channels of zeros.

    Half of them come before the others and half after, as in the common implementation, whose weights therefore give
    their own logits; at the end they would be the same family of functions with its channels in another order.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.before = (c_out - c_in) // 2
        self.after = c_out - c_in - self.before
        self.stride = stride

    def forward(self, x: Features) -> Features:
        """Return features of the new shape."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def layer(
    block: Callable[[int, int, int], nn.Module], count: int, c_in: int, c_out: int, *, stride: int
) -> nn.Sequential:
    """Return ``count`` blocks in a row, made by ``block(c_in, c_out, stride)``; the first one strides."""
    first = block(c_in, c_out, stride)
    return nn.Sequential(first, *(block(c_out, c_out, 1) for _ in range(count - 1)))


def blocks_per_layer(depth: int, convolutions: int) -> int:
    """Return ``k`` for three layers of ``k`` blocks with so many convolutions each, between a stem and a head.

    Raises ``ValueError`` unless ``depth = 3 * convolutions * k + 2``.
    """
    per_block = 3 * convolutions
    if depth < per_block + 2 or (depth - 2) % per_block:
        below = max(1, (depth - 2) // per_block) * per_block + 2
        raise ValueError(
            f"expected depth = {per_block} k + 2, got depth={depth}; the nearest are {below} and {below + per_block}"
        )
    return (depth - 2) // per_block


def classify(linear: nn.Linear, h: Features) -> Logits:
    """Average over all positions, whatever the side; at 32x32 it is the published pooling of 4x4 or 8x8."""
    logits: Logits = linear(F.adaptive_avg_pool2d(h, 1).flatten(1))
    return logits


def head(linear: nn.Linear, *before: nn.Module) -> nn.Sequential:
    """Return :func:`classify` as a module that owns nothing new, with modules applied ``before`` it."""
    return nn.Sequential(*before, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), linear)


def draw_as_he(network: nn.Module) -> None:
    """Draw the convolutions from N(0, 2 / (k^2 c_out)): He et al. 2015 (arXiv 1502.01852), equation 14."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
