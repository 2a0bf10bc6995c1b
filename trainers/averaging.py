"""Keeps a running average of a network's weights and statistics.

Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"; with exponential weights as is usual
for networks: ``avg <- d avg + (1 - d) weights`` after each step, ``d`` being at most ``(1 + t) / (10 + t)`` at step t,
or the first, random weights would stay in it for long.

torch's ``AveragedModel`` copies the first weights instead of averaging them and would average counts as well.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """The running average of one network, as a network."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step; counts, such as BatchNorm's of its batches, are copied."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        averaged: dict[str, Tensor] = self.network.state_dict()
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                averaged[name].lerp_(value, 1 - decay)
            else:
                averaged[name].copy_(value)
