"""Residual blocks that normalise and activate before each convolution: He et al. 2016, arXiv 1603.05027, figure 1b.

The shortcut is the raw input; where the shape changes it starts from the *activated* one.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from robust_eval.models.architectures._layers import Features, Padding, Shortcut, conv1x1, conv3x3
from robust_eval.models.architectures._momentum import Parts

__all__ = ["EXPANSION", "BasicBlock", "Bottleneck"]

EXPANSION = 4
"""How many times more channels a bottleneck puts out than its 3x3 convolution has."""


class BasicBlock(nn.Module):
    """``conv2(relu(bn2(conv1(a)))) + shortcut`` with ``a = relu(bn1(x))``: two 3x3 convolutions, the first strides."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, shortcut: Shortcut = "projection") -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = conv3x3(c_in, c_out, stride=stride)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = conv3x3(c_out, c_out)
        self.shortcut = _shortcut(c_in, c_out, stride, shortcut)

    def parts(self, x: Features) -> Parts:
        """Return what the block adds and what it adds it to."""
        a = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(a)
        return Parts(self.conv2(F.relu(self.bn2(self.conv1(a)))), shortcut)

    def forward(self, x: Features) -> Features:
        """Return the block's features."""
        residual, shortcut = self.parts(x)
        return residual + shortcut


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each normalised and activated before; the 3x3 one strides.

    The inner two have a quarter of the channels that come out.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, *, shortcut: Shortcut = "projection") -> None:
        super().__init__()
        inner = c_out // EXPANSION
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = conv1x1(c_in, inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride=stride)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, c_out)
        self.shortcut = _shortcut(c_in, c_out, stride, shortcut)

    def parts(self, x: Features) -> Parts:
        """Return what the block adds and what it adds it to."""
        a = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(a)
        h = self.conv2(F.relu(self.bn2(self.conv1(a))))
        return Parts(self.conv3(F.relu(self.bn3(h))), shortcut)

    def forward(self, x: Features) -> Features:
        """Return the block's features."""
        residual, shortcut = self.parts(x)
        return residual + shortcut


def _shortcut(c_in: int, c_out: int, stride: int, kind: Shortcut) -> nn.Module | None:
    if stride == 1 and c_in == c_out:
        return None
    if kind == "padding":
        return Padding(c_in, c_out, stride)
    return nn.Sequential(conv1x1(c_in, c_out, stride=stride))
