"""Wide Residual Networks (Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146).

``y = conv2(relu(bn2(conv1(relu(bn1(x)))))) + shortcut(x)``, ``(depth - 4) / 6`` such blocks in each of three
layers with 16, 32 and 64 times ``width`` channels (table 1); WRN-28-10 is ``depth=28, width=10``.

Names and arithmetic are those of the implementation that the mixup family uses: the shortcut takes the raw
``x`` (the paper's code: the activated one) and the stride sits on ``conv2`` (the paper's: on ``conv1``). That
implementation also gives every convolution a bias: ``bias=True`` loads its weights. There is no dropout, and
every batch normalisation has the usual momentum of 0.1 (theirs: 0.9 in the last one).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from robust_eval.fields import Depth, Width
from robust_eval.methods import Architecture
from robust_eval.models.architectures._layers import Features, classify, conv3x3, head, layer
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["WideResNet", "WideResNetwork"]


@register("architecture", "wide_resnet")
@dataclass(frozen=True, kw_only=True)
class WideResNet(Architecture):
    """Wide residual network: WRN-28-10 with 36.5 M weights by default; ``depth=40, width=4`` has 8.9 M."""

    depth: Annotated[Depth, Field(ge=10)] = 28
    """Convolutions on the longest path, plus one for the head: 6 k + 4."""
    width: Width = 10
    """Widening factor: the layers have 16, 32 and 64 times as many channels."""
    bias: bool = False
    """Whether convolutions have a bias, which the batch normalisation after most of them makes redundant."""
    stem_stride: Width = 1
    """Stride of the first convolution: 1 for 32x32 images, 2 for 64x64."""

    def __post_init__(self) -> None:
        if (self.depth - 4) % 6:
            below = self.depth - (self.depth - 4) % 6
            raise ValueError(
                f"expected depth = 6 k + 4, got depth={self.depth}; the nearest are {below} and {below + 6}"
            )

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 4 pixels works."""
        return WideResNetwork(
            self.depth, self.width, self.stem_stride, bias=self.bias, channels=channels, classes=classes
        )


class WideResNetwork(nn.Module):
    """The network of :class:`WideResNet`: a stem, three layers of blocks, a normalised linear head."""

    def __init__(
        self, depth: int, width: int, stem_stride: int, *, bias: bool, channels: int, classes: int
    ) -> None:
        super().__init__()
        blocks, block = (depth - 4) // 6, partial(_Block, bias=bias)
        self.conv1 = conv3x3(channels, 16, stride=stem_stride, bias=bias)
        self.layer1 = layer(block, blocks, 16, 16 * width, stride=1)
        self.layer2 = layer(block, blocks, 16 * width, 32 * width, stride=2)
        self.layer3 = layer(block, blocks, 32 * width, 64 * width, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.linear = nn.Linear(64 * width, classes)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return classify(self.linear, F.relu(self.bn1(h)))

    @property
    def stages(self) -> list[nn.Module]:
        """Stem, three layers, head: applied in turn they are ``forward``."""
        return [self.conv1, self.layer1, self.layer2, self.layer3, head(self.linear, self.bn1, nn.ReLU())]


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, *, bias: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = conv3x3(c_in, c_out, bias=bias)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = conv3x3(c_out, c_out, stride=stride, bias=bias)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=bias))

    def forward(self, x: Features) -> Features:
        h = self.conv1(F.relu(self.bn1(x)))
        y: Features = self.conv2(F.relu(self.bn2(h))) + self.shortcut(x)
        return y
