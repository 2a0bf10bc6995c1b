"""Two convolutions without normalisation, for images of 8x8 to 32x32: no batch decides what another image gives.

``linear(grid(relu(conv2(relu(conv1(x))))))``; both are 3x3 with stride 2 and a bias, with 8 and 16 channels, and
``grid`` averages each quarter of the image: of 8x8 pixels it leaves all 2x2 positions as they are.

Ours: the "small convolutional network" that the exhaustive search for a perfect order trains is not described. Many
copies of this one can be trained at once (``torch.func.vmap``), which running statistics forbid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

from robust_eval.fields import Width
from robust_eval.methods import Architecture
from robust_eval.models.architectures._layers import conv3x3
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["PlainCnn", "PlainNetwork"]

GRID = 2
"""Positions by side that the head sees."""


@register("architecture", "plain_cnn")
@dataclass(frozen=True, kw_only=True)
class PlainCnn(Architecture):
    """Two convolutions without normalisation, for images of 8x8 to 32x32."""

    width: Width = 8
    """Channels of the first convolution; the second has twice as many."""

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side works."""
        return PlainNetwork(self.width, channels=channels, classes=classes)


class PlainNetwork(nn.Module):
    """The network of :class:`PlainCnn`."""

    def __init__(self, width: int, *, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, width, stride=2, bias=True)
        self.conv2 = conv3x3(width, 2 * width, stride=2, bias=True)
        self.linear = nn.Linear(2 * width * GRID**2, classes)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = F.relu(self.conv2(F.relu(self.conv1(x))))
        logits: Logits = self.linear(F.adaptive_avg_pool2d(h, GRID).flatten(1))
        return logits

    @property
    def stages(self) -> list[nn.Module]:
        """Two convolutions and the head: applied in turn they are ``forward``."""
        first, second = nn.Sequential(self.conv1, nn.ReLU()), nn.Sequential(self.conv2, nn.ReLU())
        return [first, second, nn.Sequential(nn.AdaptiveAvgPool2d(GRID), nn.Flatten(1), self.linear)]
