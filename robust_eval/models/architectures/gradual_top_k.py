"""A small network whose layers choose among branches: all of them at first, at the end the best one for each image.

A layer has n branches M_i. For an input h with channel means GAP(h),

    a = softmax(W GAP(h) + b),   c_j ~ a_(j) GCC_n(t)_j with sum 1,   out = sum_j c_j M_(j)(h)

where (1), (2), ... are the branches by falling a, and GCC_n(t) the coefficients of ``gradual_cascading_sum``: 1/n each
at t = 0, when out is the mean weighted by a, and all on the first at t = 1, when it is the best branch alone; one
branch after the other fades out on the way. An idea of one sentence; branches (a 3x3 convolution of stride 2, batch
normalisation and ReLU each), two layers of them behind the stem of ``small_cnn``, n = 4 and the rest are ours.

How the network knows t: in training the objective tells each module that asks (``at_progress``) how much of the budget
is spent, before each batch; t grows with it, to 1 at ``1 - finetune``. It is kept with the weights, as a whole number
that averaged weights copy and do not average: a network that is read from a file has the t at which its weights were
taken, and one that was never trained has 0. With weights to start from, training begins at t = 0 again.

All branches are computed, also where one is chosen: no time is saved. At t = 1 nothing teaches W any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Real, Width
from robust_eval.methods import Architecture
from robust_eval.mixing import gradual_coefficients
from robust_eval.models.architectures._layers import Count, Features, classify, conv3x3, head
from robust_eval.registry import register
from robust_eval.types import Images, Logits

__all__ = ["GradualTopK", "GradualTopKLayer", "GradualTopKNetwork"]

MILLION = 1_000_000


@register("architecture", "gradual_top_k")
@dataclass(frozen=True, kw_only=True)
class GradualTopK(Architecture):
    """Small network of two layers of branches, of which the best is chosen gradually; 0.4 M weights."""

    width: Width = 32
    """Channels of the first convolution; the layers after it have twice and four times as many."""
    branches: Count = 4
    """Branches of a layer; 1 is ``small_cnn``."""
    finetune: Annotated[Real, Field(ge=0, lt=1)] = 0.25
    """Last part of the training in which each image has one branch."""

    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised network; any side from 4 pixels works."""
        return GradualTopKNetwork(self, channels=channels, classes=classes)


class GradualTopKLayer(nn.Module):
    """Branches weighed by attention; it halves the side."""

    done: Tensor

    def __init__(self, c_in: int, c_out: int, *, branches: int, finetune: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(conv3x3(c_in, c_out, stride=2), nn.BatchNorm2d(c_out), nn.ReLU())
            for _ in range(branches)
        )
        self.attention = nn.Linear(c_in, branches)
        self.finetune = finetune
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))

    @property
    def t(self) -> float:
        """How far the choice is, from 0 (all branches) to 1 (the best one)."""
        return min(1.0, int(self.done) / MILLION / (1 - self.finetune))

    def at_progress(self, progress: float) -> None:
        """Take in how much of the training is done, from 0 to 1."""
        self.done.fill_(round(progress * MILLION))

    def forward(self, h: Features) -> Features:
        """Return the weighed sum of what the branches make of the features."""
        weights = self.weights(h)
        out: Features = sum(
            weights[:, i, None, None, None] * branch(h) for i, branch in enumerate(self.branches)
        )
        return out

    def weights(self, h: Features) -> Float[Tensor, "n branches"]:
        """Return the weight of each branch for each image."""
        a = self.attention(F.adaptive_avg_pool2d(h, 1).flatten(1)).softmax(1)
        ranked, order = a.sort(dim=1, descending=True, stable=True)
        kept = ranked * ranked.new_tensor(gradual_coefficients(len(self.branches), self.t))
        return torch.zeros_like(a).scatter(1, order, kept / kept.sum(1, keepdim=True))


class GradualTopKNetwork(nn.Module):
    """The network of :class:`GradualTopK`."""

    def __init__(self, fields: GradualTopK, *, channels: int, classes: int) -> None:
        super().__init__()
        width = fields.width
        layer = partial(GradualTopKLayer, branches=fields.branches, finetune=fields.finetune)
        self.conv1 = conv3x3(channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = layer(width, 2 * width)
        self.layer2 = layer(2 * width, 4 * width)
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
