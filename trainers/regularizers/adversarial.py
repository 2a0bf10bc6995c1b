"""Train on the worst image that a few steps of gradient ascent find around each one.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks",
ICLR 2018, https://arxiv.org/abs/1706.06083, equation 2.1, the maximum by projected gradient ascent:

    min_θ E [ max_{|δ|_inf <= ε} CE(f(x + δ), y) ],   x <- Π(x + α sign grad_x CE(f(x), y))

Defaults are the paper's for CIFAR-10 (section 5): ε = 8/255, steps of 2/255, 7 of them, from a uniform random
start. Only perturbed images enter the loss.

Deviation: the authors' code attacks in train mode. Here the ascent runs with dropout off and with the
running statistics of BatchNorm, which it leaves as they are: in train mode each of its steps would shift
them. The loss at the point it found is taken in train mode.
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
from robust_eval.methods import Regularizer
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Pixels

__all__ = ["Adversarial"]


@register("regularizer", "adversarial")
@dataclass(frozen=True, kw_only=True)
class Adversarial(Regularizer):
    """Cross-entropy at images perturbed by projected gradient ascent."""

    eps: Pixels = 8 / 255
    """Radius of the ball, in units of the [0, 1] pixel range."""
    step_size: Pixels = 2 / 255
    """Length of a step, in the same units."""
    steps: Annotated[int, Field(ge=1)] = 7
    norm: Literal["linf"] = "linf"

    def loss(self, model: nn.Module, x: Images, y: Labels, *, rng: Rng, progress: float) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the perturbed batch."""
        return functional.cross_entropy(model(self._ascend(model, x, y, rng)), y)

    def evaluations(self, n: int) -> int:
        """Return ``n`` for each step of the ascent and for the loss."""
        return n * (1 + self.steps)

    def _ascend(self, model: nn.Module, x: Images, y: Labels, rng: Rng) -> Images:
        lower, upper = (x - self.eps).clamp(min=0), (x + self.eps).clamp(max=1)
        start = rng.for_batch(len(x)).child("start").uniform(*x.shape[1:], device=x.device)
        x_adv = (x + (2 * start - 1) * self.eps).clamp(lower, upper)
        with frozen(model), torch.enable_grad():
            for _ in range(self.steps):
                x_adv.requires_grad_()
                # summed, so that an example's gradient does not shrink with the batch
                loss = functional.cross_entropy(model(x_adv), y, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, x_adv)
                x_adv = (x_adv.detach() + self.step_size * gradient.sign()).clamp(lower, upper)
        return x_adv
