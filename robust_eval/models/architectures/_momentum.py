"""Residual momentum: what a block adds is averaged over the blocks before it.

An idea of one sentence: a sliding window, or a moving average, over what blocks add, to learn faster.
With F_l the residual branch of block l and s_l its shortcut, h_{l+1} = s_l(h_l) + v_l and, within a layer of blocks of
one shape,

    average:  v_l = μ v_{l-1} + F_l(h_l)                          window:  v_l = mean of F_l, F_{l-1}, ..., F_{l-w+1}

Both begin anew with each layer, where the shape changes: v is F_l of its first block, and a window holds the blocks
that there are. μ = 0 and w = 1 are the plain network, and weights have the same names in all of them.

Ours: all beyond the sentence, which may also mean an average over training steps. The average sums a geometric series,
so that residuals that agree grow by up to 1 / (1 - μ): in a fresh PreResNet-56, features after the last layer (root
mean square, 64 CIFAR-10 images) are 1.8 times those of the plain network with μ = 1/2, 4.0 times with 0.9, and 1.02
times with a window of 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from torch import nn

from robust_eval.fields import Real
from robust_eval.models.architectures._layers import Count, Features, layer

__all__ = ["MomentumLayer", "Parts", "ResidualMomentum"]


class Parts(NamedTuple):
    """What a residual block adds up."""

    residual: Features
    shortcut: Features


@dataclass(frozen=True, kw_only=True)
class ResidualMomentum:
    """Fields of an architecture of residual blocks."""

    residual: Literal["plain", "average", "window"] = field(default="plain", metadata={"identity": "given"})
    """What a block adds: its residual, the moving ``average`` of those so far, or the mean over the ``window``."""
    mu: Annotated[Real, Field(ge=0, lt=1)] = field(default=0.5, metadata={"identity": "given"})
    """Momentum of ``average``."""
    window: Count = field(default=2, metadata={"identity": "given"})
    """Blocks of ``window``."""

    def __post_init__(self) -> None:
        for name, of in (("mu", "average"), ("window", "window")):
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != default and self.residual != of:
                raise ValueError(
                    f"expected residual={of!r} with {name}={getattr(self, name)}, got {self.residual!r}"
                )

    def layer(
        self, block: Callable[[int, int, int], nn.Module], count: int, c_in: int, c_out: int, *, stride: int
    ) -> nn.Sequential:
        """Return blocks in a row, as :func:`robust_eval.models.architectures._layers.layer`, with this momentum."""
        blocks = layer(block, count, c_in, c_out, stride=stride)
        return blocks if self.residual == "plain" else MomentumLayer(blocks, self)


class MomentumLayer(nn.Sequential):
    """Blocks in a row, each of which adds an average of residuals."""

    def __init__(self, blocks: nn.Sequential, fields: ResidualMomentum) -> None:
        super().__init__(*blocks)
        self.window = fields.window if fields.residual == "window" else None
        self.mu = fields.mu

    def forward(self, x: Features) -> Features:
        """Return the features of the last block."""
        h = x
        recent: list[Features] = []
        blocks: Any = self
        for block in blocks:
            residual, shortcut = block.parts(h)
            if self.window is None:
                recent = [residual + self.mu * recent[0] if recent else residual]
            else:
                recent = [*recent, residual][-self.window :]
            h = sum(recent[1:], recent[0]) / len(recent) + shortcut
        return h
