"""Fit clean images, and keep what the network says the same in the ball around each of them.

Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "Theoretically Principled Trade-off between Robustness and Accuracy",
ICML 2019, https://arxiv.org/abs/1901.08573, algorithm 1 (TRADES), with probabilities f(x) and its 1/λ written as β:

    L = CE(f(x), y) + β max_{x' in ball} KL(f(x) || f(x'))

The maximum is approached by projected gradient ascent from x with normal noise of 0.001: at x itself the gradient is
zero. Defaults: β = 6, ε = 8/255 and 10 steps of 2/255; the paper's experiments on CIFAR-10 print 0.031 and 0.007.

As in the authors' code the ascent runs in eval mode, f(x) is held still in it, and in the loss the gradient goes
through both sides of the divergence. There ``max`` of the KL and of its part that depends on x', the cross-entropy
with f(x), are the same thing.

Deviation: clean and perturbed images pass through the network in one batch, so BatchNorm normalises both by the same
statistics and moves its running ones once. The authors' code passes one after the other: it normalises each by its own
and tests with a mixture of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from robust_eval.fields import Positive
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers._perturbation import Perturbing, settled
from trainers.fitting import Fitting

__all__ = ["Trades"]

START = 0.001
"""Standard deviation of the noise that the ascent starts from, in pixels."""


@register("regularizer", "trades")
@dataclass(frozen=True, kw_only=True)
class Trades(Perturbing, Fitting):
    """Loss of clean images and the divergence of perturbed ones from them."""

    beta: Positive = 6.0
    """Weight of the divergence; the larger, the more clean accuracy is given for robust accuracy."""

    def loss(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        *,
        rng: Rng,
        progress: float,
        weights: Weights | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean loss of the clean images plus ``beta`` times the mean divergence."""
        start = self.normal_start(x, START, rng.for_batch(len(x)).child("start"))
        x_adv = self.climb(model, x, settled(model, x).softmax(1), start=start)
        logits: Logits = model(torch.cat([x, x_adv]))
        clean, moved = logits.chunk(2)
        each = functional.kl_div(
            moved.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True
        )
        divergence = (each if weights is None else weights[:, None] * each).sum() / len(x)
        return self.fit(clean, self.targets(y, clean, weights)) + self.beta * divergence

    def evaluations(self, n: int) -> int:
        """Return ``n`` for each step, for what the steps move away from, and for either side of the loss."""
        return n * (self.steps + 3)
