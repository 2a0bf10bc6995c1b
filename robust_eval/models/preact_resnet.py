"""Identity Mappings in Deep Residual Networks (He et al. 2016, https://arxiv.org/abs/1603.05027), for CIFAR.

``y = conv2(relu(bn2(conv1(a)))) + shortcut`` with ``a = relu(bn1(x))`` (figure 1b). The shortcut is the raw
``x``, or a 1x1 convolution of the *activated* input ``a`` where the shape changes.

Differs from the paper as the mixup family's repositories do: a 3x3 stem without normalisation, and neither
batch normalisation nor ReLU before the average pooling. Weights have the names of the common CIFAR
implementations. For 64x64 images use ``stem_stride=2``: later shapes are then those of 32x32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from robust_eval.methods import Architecture
from robust_eval.models._layers import Features, classify, conv3x3, head, layer
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["PreActResNet", "PreActResNet18", "PreActResNet34"]


@register("architecture", "preact_resnet18")
@dataclass(frozen=True, kw_only=True)
class PreActResNet18(Architecture):
    """Residual network of 18 layers, normalised and activated before each convolution; 11.2 M weights."""

    width: Annotated[int, Field(ge=1)] = 64
    """Channels of the first of four layers; each later layer doubles them."""
    stem_stride: Annotated[int, Field(ge=1)] = 1
    """Stride of the first convolution: 1 for 32x32 images, 2 for 64x64."""

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 8 pixels works."""
        return PreActResNet((2, 2, 2, 2), self.width, self.stem_stride, channels=channels, classes=classes)


@register("architecture", "preact_resnet34")
@dataclass(frozen=True, kw_only=True)
class PreActResNet34(Architecture):
    """Residual network of 34 layers, normalised and activated before each convolution; 21.3 M weights."""

    width: Annotated[int, Field(ge=1)] = 64
    """Channels of the first of four layers; each later layer doubles them."""
    stem_stride: Annotated[int, Field(ge=1)] = 1
    """Stride of the first convolution: 1 for 32x32 images, 2 for 64x64."""

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 8 pixels works."""
        return PreActResNet((3, 4, 6, 3), self.width, self.stem_stride, channels=channels, classes=classes)


class PreActResNet(nn.Module):
    """The network of both architectures: a stem, four layers of pre-activation blocks, a linear head."""

    def __init__(
        self, depths: tuple[int, int, int, int], width: int, stem_stride: int, *, channels: int, classes: int
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, width, stride=stem_stride)
        self.layer1 = layer(_Block, depths[0], width, width, stride=1)
        self.layer2 = layer(_Block, depths[1], width, 2 * width, stride=2)
        self.layer3 = layer(_Block, depths[2], 2 * width, 4 * width, stride=2)
        self.layer4 = layer(_Block, depths[3], 4 * width, 8 * width, stride=2)
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return classify(self.linear, h)

    @property
    def stages(self) -> list[nn.Module]:
        """Stem, four layers, head: applied in turn they are ``forward``."""
        return [self.conv1, self.layer1, self.layer2, self.layer3, self.layer4, head(self.linear)]


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = conv3x3(c_in, c_out, stride=stride)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = conv3x3(c_out, c_out)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=False))

    def forward(self, x: Features) -> Features:
        a = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(a)
        h: Features = self.conv2(F.relu(self.bn2(self.conv1(a)))) + shortcut
        return h
