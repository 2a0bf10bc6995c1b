"""Deep Residual Learning for Image Recognition (He et al. 2016, https://arxiv.org/abs/1512.03385), for CIFAR.

``y = relu(F(x) + shortcut(x))`` with ``F = bn2 ∘ conv2 ∘ relu ∘ bn1 ∘ conv1`` (section 3.2, equation 1).
``cifar_resnet`` is the paper's own network for CIFAR (section 4.2): three layers of 16, 32 and 64 channels, and
shortcuts without weights (option A). ``resnet18`` is the wide one for ImageNet with a stem for 32x32 images, as is
usual: one 3x3 convolution without max-pooling instead of the paper's 7x7; a shortcut that changes shape is a 1x1
convolution with batch normalisation (option B). Weights have the names of the common CIFAR implementations. For 64x64
images use ``stem_stride=2``: later shapes are those of 32x32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from robust_eval.fields import Depth
from robust_eval.methods import Architecture
from robust_eval.models.architectures._layers import (
    Blocks,
    Count,
    Features,
    Padding,
    Shortcut,
    blocks_per_layer,
    classify,
    conv1x1,
    conv3x3,
    draw_as_he,
    head,
    layer,
)
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["CifarResNet", "CifarResNetwork", "ResNet", "ResNet18"]


@register("architecture", "resnet18")
@dataclass(frozen=True, kw_only=True)
class ResNet18(Architecture):
    """Residual network of 18 layers with a 3x3 stem, ReLU after the sum; 11.2 M weights at width 64."""

    blocks: Blocks = (2, 2, 2, 2)
    """Blocks in each of the four layers: the depth."""
    width: Count = 64
    """Channels of the first of four layers; each later layer doubles them."""
    stem_stride: Count = 1
    """Stride of the first convolution: 1 for 32x32 images, 2 for 64x64."""

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 8 pixels works."""
        return ResNet(self.blocks, self.width, self.stem_stride, channels=channels, classes=classes)


@register("architecture", "cifar_resnet")
@dataclass(frozen=True, kw_only=True)
class CifarResNet(Architecture):
    """Thin residual network for CIFAR, ReLU after the sum; ResNet-32 with 0.46 M weights by default.

    Convolutions are drawn as in He et al. 2015 (arXiv 1502.01852), which the paper follows.
    """

    depth: Annotated[Depth, Field(ge=8)] = 32
    """Layers with weights on the longest path: 6 k + 2."""
    width: Count = 16
    """Channels of the first of three layers; each later layer doubles them."""
    shortcut: Shortcut = "padding"
    """Where the shape changes: no weights at all (``padding``, option A of the paper), or a 1x1 convolution with batch
    normalisation (``projection``, option B)."""
    stem_stride: Count = 1
    """Stride of the first convolution: 1 for 32x32 images, 2 for 64x64."""

    def __post_init__(self) -> None:
        blocks_per_layer(self.depth, 2)

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 4 pixels works."""
        return CifarResNetwork(
            blocks_per_layer(self.depth, 2),
            self.width,
            self.stem_stride,
            shortcut=self.shortcut,
            channels=channels,
            classes=classes,
        )


class ResNet(nn.Module):
    """The network of :class:`ResNet18`: a stem, four layers of basic blocks, a linear head."""

    def __init__(self, blocks: Blocks, width: int, stem_stride: int, *, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, width, stride=stem_stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = layer(_Block, blocks[0], width, width, stride=1)
        self.layer2 = layer(_Block, blocks[1], width, 2 * width, stride=2)
        self.layer3 = layer(_Block, blocks[2], 2 * width, 4 * width, stride=2)
        self.layer4 = layer(_Block, blocks[3], 4 * width, 8 * width, stride=2)
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return classify(self.linear, h)

    @property
    def stages(self) -> list[nn.Module]:
        """Stem, four layers, head: applied in turn they are ``forward``."""
        stem = nn.Sequential(self.conv1, self.bn1, nn.ReLU())
        return [stem, self.layer1, self.layer2, self.layer3, self.layer4, head(self.linear)]


class CifarResNetwork(nn.Module):
    """The network of :class:`CifarResNet`: a stem, three layers of basic blocks, a linear head."""

    def __init__(
        self, blocks: int, width: int, stem_stride: int, *, shortcut: Shortcut, channels: int, classes: int
    ) -> None:
        super().__init__()
        block = partial(_Block, shortcut=shortcut)
        self.conv1 = conv3x3(channels, width, stride=stem_stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = layer(block, blocks, width, width, stride=1)
        self.layer2 = layer(block, blocks, width, 2 * width, stride=2)
        self.layer3 = layer(block, blocks, 2 * width, 4 * width, stride=2)
        self.linear = nn.Linear(4 * width, classes)
        draw_as_he(self)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = F.relu(self.bn1(self.conv1(x)))
        return classify(self.linear, self.layer3(self.layer2(self.layer1(h))))

    @property
    def stages(self) -> list[nn.Module]:
        """Stem, three layers, head: applied in turn they are ``forward``."""
        stem = nn.Sequential(self.conv1, self.bn1, nn.ReLU())
        return [stem, self.layer1, self.layer2, self.layer3, head(self.linear)]


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, *, shortcut: Shortcut = "projection") -> None:
        super().__init__()
        self.conv1 = conv3x3(c_in, c_out, stride=stride)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = conv3x3(c_out, c_out)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = (
                Padding(c_in, c_out, stride)
                if shortcut == "padding"
                else nn.Sequential(conv1x1(c_in, c_out, stride=stride), nn.BatchNorm2d(c_out))
            )

    def forward(self, x: Features) -> Features:
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.shortcut(x))
