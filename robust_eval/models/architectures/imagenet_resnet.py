"""Deep Residual Learning for Image Recognition (He et al. 2016, https://arxiv.org/abs/1512.03385), for large images.

``y = relu(F(x) + shortcut(x))`` with a bottleneck ``F`` (section 3.3, figure 5): 1x1, 3x3 and 1x1 convolutions, each
batch normalised. A 7x7 stem with stride 2 and a 3x3 max-pooling with stride 2 come first (table 1); a shortcut that
changes shape is a 1x1 convolution with batch normalisation (option B). Convolutions are drawn as in He et al. 2015.

Differs from the paper as torchvision's networks do, whose weights load by their own names: the stride sits on the 3x3
convolution instead of the first 1x1. For 64x64 images use ``max_pool=False``: the layers then have 32, 16, 8 and 4
pixels a side, as on CIFAR, and as many weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from robust_eval.methods import Architecture
from robust_eval.models.architectures._layers import (
    Blocks,
    Count,
    Features,
    classify,
    conv1x1,
    conv3x3,
    draw_as_he,
    head,
    layer,
)
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["ImageNetResNet", "ResNet101", "ResNet152"]

EXPANSION = 4
"""How many times more channels a block puts out than its 3x3 convolution has."""


@dataclass(frozen=True, kw_only=True)
class _ImageNetResNet(Architecture):
    head: ClassVar[str] = "fc.weight"

    blocks: Blocks
    """Blocks in each of the four layers: the depth."""
    width: Count = 64
    """Channels of the stem; the four layers put out 4, 8, 16 and 32 times as many."""
    max_pool: bool = True
    """Whether a max-pooling halves the side after the stem: for 224x224 images; not for 64x64."""

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 8 pixels works."""
        return ImageNetResNet(
            self.blocks, self.width, max_pool=self.max_pool, channels=channels, classes=classes
        )


@register("architecture", "resnet101")
@dataclass(frozen=True, kw_only=True)
class ResNet101(_ImageNetResNet):
    """Residual network of 101 layers with a 7x7 stem, ReLU after the sum, for 224x224 images; 44.5 M weights.

    For 64x64 images use ``max_pool=False``. torchvision's weights load as they are.
    """

    blocks: Blocks = (3, 4, 23, 3)


@register("architecture", "resnet152")
@dataclass(frozen=True, kw_only=True)
class ResNet152(_ImageNetResNet):
    """Residual network of 152 layers with a 7x7 stem, ReLU after the sum, for 224x224 images; 60.2 M weights.

    For 64x64 images use ``max_pool=False``. torchvision's weights load as they are.
    """

    blocks: Blocks = (3, 8, 36, 3)


class ImageNetResNet(nn.Module):
    """The network of both architectures: a 7x7 stem, four layers of bottlenecks, a linear head."""

    def __init__(self, blocks: Blocks, width: int, *, max_pool: bool, channels: int, classes: int) -> None:
        super().__init__()
        out = EXPANSION * width
        self.conv1 = nn.Conv2d(channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1) if max_pool else nn.Identity()
        self.layer1 = layer(_Bottleneck, blocks[0], width, out, stride=1)
        self.layer2 = layer(_Bottleneck, blocks[1], out, 2 * out, stride=2)
        self.layer3 = layer(_Bottleneck, blocks[2], 2 * out, 4 * out, stride=2)
        self.layer4 = layer(_Bottleneck, blocks[3], 4 * out, 8 * out, stride=2)
        self.fc = nn.Linear(8 * out, classes)
        draw_as_he(self)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = self.pool(F.relu(self.bn1(self.conv1(x))))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return classify(self.fc, h)

    @property
    def stages(self) -> list[nn.Module]:
        """Stem with its pooling, four layers, head: applied in turn they are ``forward``."""
        stem = nn.Sequential(self.conv1, self.bn1, nn.ReLU(), self.pool)
        return [stem, self.layer1, self.layer2, self.layer3, self.layer4, head(self.fc)]


class _Bottleneck(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        inner = c_out // EXPANSION
        self.conv1 = conv1x1(c_in, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride=stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, c_out)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(conv1x1(c_in, c_out, stride=stride), nn.BatchNorm2d(c_out))

    def forward(self, x: Features) -> Features:
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(h)))))
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))
