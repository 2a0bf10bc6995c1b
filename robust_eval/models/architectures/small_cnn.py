"""Three convolutions for small images: trains in seconds on a CPU, for trying things and for tests.

``linear(mean(layer2(layer1(relu(bn1(conv1(x)))))))``; each layer is a 3x3 convolution with batch
normalisation and ReLU that halves the side and doubles the channels. Made for 8x8 to 32x32 images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

from robust_eval.fields import Width
from robust_eval.methods import Architecture
from robust_eval.models.architectures._layers import classify, conv3x3, head
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["SmallCnn", "SmallNetwork"]


@register("architecture", "small_cnn")
@dataclass(frozen=True, kw_only=True)
class SmallCnn(Architecture):
    """Three convolutions with batch normalisation, for images of 8x8 to 32x32; trains in seconds on a CPU."""

    width: Width = 32
    """Channels of the first convolution; the layers after it have twice and four times as many."""

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 4 pixels works."""
        return SmallNetwork(self.width, channels=channels, classes=classes)


class SmallNetwork(nn.Module):
    """The network of :class:`SmallCnn`."""

    def __init__(self, width: int, *, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _halving(width, 2 * width)
        self.layer2 = _halving(2 * width, 4 * width)
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = F.relu(self.bn1(self.conv1(x)))
        return classify(self.linear, self.layer2(self.layer1(h)))

    @property
    def stages(self) -> list[nn.Module]:
        """Stem, two layers, head: applied in turn they are ``forward``."""
        stem = nn.Sequential(self.conv1, self.bn1, nn.ReLU())
        return [stem, self.layer1, self.layer2, head(self.linear)]


def _halving(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(conv3x3(c_in, c_out, stride=2), nn.BatchNorm2d(c_out), nn.ReLU())
