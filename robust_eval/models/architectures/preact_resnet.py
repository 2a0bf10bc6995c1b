"""Identity Mappings in Deep Residual Networks (He et al. 2016, https://arxiv.org/abs/1603.05027), for CIFAR.

``y = conv2(relu(bn2(conv1(a)))) + shortcut`` with ``a = relu(bn1(x))`` (figure 1b). The shortcut is the raw
``x``, or a 1x1 convolution of the *activated* input ``a`` where the shape changes. The networks of 101 and 152 layers
have bottlenecks in the place of such blocks: 1x1, 3x3 and 1x1 convolutions.

Differs from the paper as the mixup family's repositories do: a 3x3 stem without normalisation, and neither
batch normalisation nor ReLU before the average pooling. Weights have the names of the common CIFAR
implementations. For 64x64 images use ``stem_stride=2``: later shapes are then those of 32x32. ``residual`` averages
what blocks add over those before: see ``preresnet``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from robust_eval.methods import Architecture
from robust_eval.models.architectures._layers import Blocks, Count, classify, conv3x3, head, layer
from robust_eval.models.architectures._momentum import ResidualMomentum
from robust_eval.models.architectures._preactivation import EXPANSION, BasicBlock, Bottleneck
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["PreActResNet", "PreActResNet18", "PreActResNet34", "PreActResNet101", "PreActResNet152"]


@dataclass(frozen=True, kw_only=True)
class _PreActResNet(ResidualMomentum, Architecture):
    bottleneck: ClassVar[bool] = False

    blocks: Blocks
    """Blocks in each of the four layers: the depth."""
    width: Count = 64
    """Channels of the first of four layers, four times as many where it is of bottlenecks; each later layer doubles
    them."""
    stem_stride: Count = 1
    """Stride of the first convolution: 1 for 32x32 images, 2 for 64x64."""

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 8 pixels works."""
        return PreActResNet(
            self.blocks,
            self.width,
            self.stem_stride,
            bottleneck=self.bottleneck,
            layer=self.layer,
            channels=channels,
            classes=classes,
        )


@register("architecture", "preact_resnet18")
@dataclass(frozen=True, kw_only=True)
class PreActResNet18(_PreActResNet):
    """Residual network of 18 layers, normalised and activated before each convolution; 11.2 M weights."""

    blocks: Blocks = (2, 2, 2, 2)


@register("architecture", "preact_resnet34")
@dataclass(frozen=True, kw_only=True)
class PreActResNet34(_PreActResNet):
    """Residual network of 34 layers, normalised and activated before each convolution; 21.3 M weights."""

    blocks: Blocks = (3, 4, 6, 3)


@register("architecture", "preact_resnet101")
@dataclass(frozen=True, kw_only=True)
class PreActResNet101(_PreActResNet):
    """Residual network of 101 layers in bottlenecks, normalised and activated before each; 42.5 M weights.

    For 64x64 images (PatchUp's Tiny-ImageNet, whose network is in no repository) use ``stem_stride=2``.
    """

    bottleneck: ClassVar[bool] = True

    blocks: Blocks = (3, 4, 23, 3)


@register("architecture", "preact_resnet152")
@dataclass(frozen=True, kw_only=True)
class PreActResNet152(_PreActResNet):
    """Residual network of 152 layers in bottlenecks, normalised and activated before each; 58.1 M weights.

    For 64x64 images (PatchUp's Tiny-ImageNet, whose network is in no repository) use ``stem_stride=2``.
    """

    bottleneck: ClassVar[bool] = True

    blocks: Blocks = (3, 8, 36, 3)


class PreActResNet(nn.Module):
    """The network of these architectures: a stem, four layers of pre-activation blocks, a linear head."""

    def __init__(
        self,
        blocks: Blocks,
        width: int,
        stem_stride: int,
        *,
        bottleneck: bool,
        channels: int,
        classes: int,
        layer: Callable[..., nn.Module] = layer,
    ) -> None:
        super().__init__()
        block = Bottleneck if bottleneck else BasicBlock
        out = width * EXPANSION if bottleneck else width
        self.conv1 = conv3x3(channels, width, stride=stem_stride)
        self.layer1 = layer(block, blocks[0], width, out, stride=1)
        self.layer2 = layer(block, blocks[1], out, 2 * out, stride=2)
        self.layer3 = layer(block, blocks[2], 2 * out, 4 * out, stride=2)
        self.layer4 = layer(block, blocks[3], 4 * out, 8 * out, stride=2)
        self.linear = nn.Linear(8 * out, classes)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return classify(self.linear, h)

    @property
    def stages(self) -> list[nn.Module]:
        """Stem, four layers, head: applied in turn they are ``forward``."""
        return [self.conv1, self.layer1, self.layer2, self.layer3, self.layer4, head(self.linear)]
