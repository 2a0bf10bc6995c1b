"""A gradient for transformations that have none: the backward pass takes them for the identity (BPDA).

Backward pass differentiable approximation: Athalye, Carlini and Wagner 2018, arXiv 1802.00420, section 4.1, with
``g(x) = x``, which is near the truth where the transformation gives back nearly the same image. The forward pass, and
with it every prediction, is exact: the approximation helps or hinders the attack alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd import Function

from defenses._averaged import Averaged, log_probabilities
from robust_eval.rng import Rng
from robust_eval.types import Images, Logits

__all__ = ["Preprocessed", "straight_through"]


class Preprocessed(Averaged):
    """A network asked about ``transform(x)``, whose gradient is the network's own at that image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, copies=1, draws=False)

    def transform(self, x: Images) -> Images:
        """Return the image that the network sees; called without a graph."""
        raise NotImplementedError

    def average(self, x: Images, rng: Rng) -> Logits:
        """Return the log-probabilities of the transformed images."""
        with torch.no_grad():
            transformed = self.transform(x.detach())
        return log_probabilities(self.network, straight_through(x, transformed), rng)


def straight_through(x: Images, transformed: Images) -> Images:
    """Return ``transformed`` with the gradient of ``x``."""
    result: Images = _StraightThrough.apply(x, transformed)
    return result


class _StraightThrough(Function):
    # x + (transformed - x).detach() would do, but for the rounding of the sum
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Images, transformed: Images) -> Images:
        return transformed.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Images, Images], output: Images) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Images) -> tuple[Images, None]:
        return gradient, None
