"""PreResNet-56 and its kin: Identity Mappings in Deep Residual Networks (He et al. 2016, arXiv 1603.05027), section 3.

A 3x3 stem of 16 channels, three layers of ``k`` pre-activation blocks with 16, 32 and 64 channels, batch normalisation
and ReLU, the average, a linear head: ``depth = 6 k + 2``, or ``9 k + 2`` with bottlenecks, which put out four times as
many channels.

The thesis names PreResNet-56 without its blocks or shortcuts: basic blocks and 1x1 convolutions are the reading here
(855,578 weights for ten classes); ``shortcut="padding"`` has no weights in it (853,018), and ``block="bottleneck"`` is
the third reading (590,426). Convolutions are drawn as in He et al. 2015. ``residual`` averages what blocks add over
those before, anew in each layer: h_{l+1} = s_l(h_l) + v_l with v_l = μ v_{l-1} + F_l (``average``), or the mean of the
last w of F (``window``). That reading of one sentence is ours, and so are μ = 1/2 and w = 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from robust_eval.fields import Depth
from robust_eval.methods import Architecture
from robust_eval.models.architectures._layers import (
    Count,
    Shortcut,
    blocks_per_layer,
    classify,
    conv3x3,
    draw_as_he,
    head,
)
from robust_eval.models.architectures._momentum import ResidualMomentum
from robust_eval.models.architectures._preactivation import EXPANSION, BasicBlock, Bottleneck
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["PreResNet", "PreResNetwork"]

CONVOLUTIONS = {"basic": 2, "bottleneck": 3}


@register("architecture", "preresnet")
@dataclass(frozen=True, kw_only=True)
class PreResNet(ResidualMomentum, Architecture):
    """Thin residual network for CIFAR, activated before each convolution; PreResNet-56 (0.86 M weights) by default."""

    depth: Annotated[Depth, Field(ge=8)] = 56
    """Layers with weights on the longest path: 6 k + 2, with bottlenecks 9 k + 2."""
    width: Count = 16
    """Channels of the stem; the layers have one, two and four times as many."""
    block: Literal["basic", "bottleneck"] = "basic"
    shortcut: Shortcut = "projection"
    """Where the shape changes: a 1x1 convolution (``projection``), or no weights at all (``padding``)."""
    stem_stride: Count = 1
    """Stride of the first convolution: 1 for 32x32 images, 2 for 64x64."""

    def __post_init__(self) -> None:
        super().__post_init__()
        blocks_per_layer(self.depth, CONVOLUTIONS[self.block])

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 4 pixels works."""
        return PreResNetwork(self, channels=channels, classes=classes)


class PreResNetwork(nn.Module):
    """The network of :class:`PreResNet`: a stem, three layers of blocks, a normalised linear head."""

    def __init__(self, fields: PreResNet, *, channels: int, classes: int) -> None:
        super().__init__()
        bottleneck, width = fields.block == "bottleneck", fields.width
        block = partial(Bottleneck if bottleneck else BasicBlock, shortcut=fields.shortcut)
        blocks = blocks_per_layer(fields.depth, CONVOLUTIONS[fields.block])
        out = width * EXPANSION if bottleneck else width
        self.conv1 = conv3x3(channels, width, stride=fields.stem_stride)
        self.layer1 = fields.layer(block, blocks, width, out, stride=1)
        self.layer2 = fields.layer(block, blocks, out, 2 * out, stride=2)
        self.layer3 = fields.layer(block, blocks, 2 * out, 4 * out, stride=2)
        self.bn1 = nn.BatchNorm2d(4 * out)
        self.linear = nn.Linear(4 * out, classes)
        draw_as_he(self)

    def forward(self, x: Images) -> Logits:
        """Map images to logits."""
        h = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return classify(self.linear, F.relu(self.bn1(h)))

    @property
    def stages(self) -> list[nn.Module]:
        """Stem, three layers, head: applied in turn they are ``forward``."""
        return [self.conv1, self.layer1, self.layer2, self.layer3, head(self.linear, self.bn1, nn.ReLU())]
