"""Perturbs training images by projected gradient ascent: what adversarial training, TRADES and their kin share.

    x <- Π(x + α steepest(grad_x CE(f(x), target)))

The ascent runs with dropout off and with the running statistics of BatchNorm, which it leaves as they are: in train
mode each step would shift them. Weights need no gradient meanwhile, which saves a third of a training step: with the
layout of the images, a step of the ascent costs 0.5 to 0.7 of one (PreActResNet-18 of width 16, WRN-16-4, a CPU core).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from robust_eval.classifier import frozen
from robust_eval.fields import Whole
from robust_eval.geometry import project, random_start, steepest
from robust_eval.methods import Regularizer
from robust_eval.rng import Rng
from robust_eval.threat import Pixels, Threat
from robust_eval.types import Images, Labels, Logits

__all__ = ["Perturbing", "settled"]

Targets = Float[Tensor, "n k"]


@dataclass(frozen=True, kw_only=True)
class Perturbing(Regularizer):
    """A regularizer that perturbs images inside a ball, a fixed number of steps up a loss."""

    eps: Pixels = 8 / 255
    """Radius of the ball, in units of the [0, 1] pixel range; with l2 something like 0.5 is usual at 32x32."""
    step_size: Pixels = 2 / 255
    """Length of a step, in the same units and the same norm."""
    steps: Annotated[Whole, Field(ge=1)] = 10
    norm: Literal["linf", "l2"] = "linf"

    def __post_init__(self) -> None:
        Threat(self.norm, self.eps)  # refuses a radius that was meant in units of 1/255

    def uniform_start(self, x: Images, rng: Rng) -> Images:
        """Return a uniform draw from the ball, moved into [0, 1]; an example's does not depend on its batch."""
        if self.norm == "l2":
            return random_start(x, "l2", self.eps, rng)
        draws = rng.uniform(*x.shape[1:], device=x.device)
        return project(x + (2 * draws - 1) * self.eps, x, "linf", self.eps)

    def normal_start(self, x: Images, scale: float, rng: Rng) -> Images:
        """Return the images with normal noise of this standard deviation, moved into the ball and [0, 1]."""
        draws = rng.normal(*x.shape[1:], device=x.device).to(x.dtype)
        return project(x + scale * draws, x, self.norm, self.eps)

    def climb(self, model: nn.Module, x: Images, target: Labels | Targets, *, start: Images) -> Images:
        """Return where ``steps`` steps from ``start`` up the cross-entropy with labels or probabilities lead."""
        # convolutions like this layout best: on a CPU it saves a sixth of a step
        x, x_adv = (images.contiguous(memory_format=torch.channels_last) for images in (x, start))
        with frozen(model), torch.enable_grad():
            for _ in range(self.steps):
                leaf = x_adv.detach().requires_grad_()
                # summed, so that an example's gradient does not shrink with the batch
                loss = functional.cross_entropy(model(leaf), target, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, leaf)
                moved = steepest(gradient, self.norm).mul_(self.step_size).add_(x_adv)
                x_adv = project(moved, x, self.norm, self.eps)
        return x_adv.contiguous()


def settled(model: nn.Module, x: Images) -> Logits:
    """Return the logits that the network gives in eval mode, without a graph."""
    with frozen(model), torch.no_grad():
        logits: Logits = model(x)
    return logits
