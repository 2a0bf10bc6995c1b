"""The expectation over the draws of a stochastic model, as one network that an attack can climb (EOT).

Athalye, Engstrom, Ilyas and Kwok 2018, arXiv 1707.07397, equation 2, with the loss outside the expectation: the output
is the log of the mean probability over M fresh draws, so that cross-entropy on it is ``-log E[p_y]``, whose gradient is
that of the accuracy a randomised model is scored by (Athalye, Carlini and Wagner 2018, arXiv 1802.00420, section 4.2).
Averaging logits, or losses, are other objectives.

How many draws are enough is measured (:func:`enough_draws`): M is doubled until the gradient over M draws points
where that over 2 M others does, or until doubling M brings it no nearer.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from robust_eval.classifier import Classifier
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, StochasticModule

__all__ = ["Draws", "Expectation", "enough_draws", "settled"]

ALIKE = 0.9
"""Cosine between two gradients from which they are taken for the same direction."""
UNDECIDED = 0.5
"""Cosine up to which draws are added whether or not it grows."""
GAIN = 0.02
"""What doubling the draws must add to the cosine to be worth it."""
MOST = 16
"""Draws at most: a defense that averages 16 copies then takes 256 images for one gradient."""


class Expectation(StochasticModule):
    """A stochastic network averaged over ``draws`` draws.

    Where the draws of a batch are more images than fit the memory (``at_once``), the graph of each is dropped and made
    anew when its gradient is asked for (Chen et al. 2016, arXiv 1604.06174): one forward pass more, the same gradient.
    """

    def __init__(self, network: StochasticModule, draws: int) -> None:
        super().__init__()
        self.network = network
        self.draws = draws
        self.copies = network.copies * draws
        self.evaluations = draws
        self._rng: Rng | None = None

    def redraw(self, rng: Rng) -> None:
        """Fix the draws of the next forward passes; one row for each image."""
        self._rng = rng

    def forward(self, x: Images) -> Logits:
        """Return the log of the mean probability over the draws."""
        if self._rng is None:
            raise ValueError("this network is stochastic: call redraw(rng) before the forward pass")
        ask = self._one
        if self.at_once is not None and len(x) * self.copies > self.at_once and x.requires_grad:
            ask = partial(checkpoint, self._one, use_reentrant=False, preserve_rng_state=False)
        outputs = [ask(x, self._rng.child("expectation", draw)) for draw in range(self.draws)]
        mean: Logits = torch.stack(outputs).logsumexp(0) - math.log(self.draws)
        return mean

    def _one(self, x: Images, rng: Rng) -> Logits:
        """Return the log-probabilities of one draw."""
        self.network.redraw(rng)
        log_p: Logits = self.network(x.clone()).log_softmax(1)  # it may write into what it is given
        # a class that is ruled out in all draws would make the gradient of their mean NaN
        return log_p.clamp(min=torch.finfo(log_p.dtype).min / 4)


class Draws(NamedTuple):
    """How many draws a gradient is averaged over."""

    number: int
    cosine: float
    """Between the mean gradients of so many draws and of twice as many others, averaged over images."""

    @property
    def converged(self) -> bool:
        """Whether more draws would hardly turn the gradient."""
        return self.cosine >= ALIKE


def enough_draws(
    network: StochasticModule, x: Images, y: Labels, *, rng: Rng, batch_size: int = 128, most: int = MOST
) -> Draws:
    """Return the least number of draws, a power of two, whose mean gradient is settled on these images.

    A gradient of ``-log E[p_y]`` has the direction of the mean of ``-∇ p_y``, so draws are added one by one.
    """
    model = Classifier(network, batch_size=batch_size, accelerate=False)
    here, there = _Mean(model, x, y, rng.child("here")), _Mean(model, x, y, rng.child("there"))
    number, cosine = 1, _cosine(here.over(1), there.over(2))
    while cosine < ALIKE and 2 * number <= most:
        wider = _cosine(here.over(2 * number), there.over(4 * number))
        # as long as the gradient is mostly noise, the cosine hardly grows
        if cosine > UNDECIDED and wider < cosine + GAIN:
            break
        number, cosine = 2 * number, wider
    return Draws(number, cosine)


def settled(
    network: StochasticModule, x: Images, y: Labels, number: int, *, rng: Rng, batch_size: int = 128
) -> Draws:
    """Return how far the gradient has settled with this number of draws."""
    model = Classifier(network, batch_size=batch_size, accelerate=False)
    here, there = _Mean(model, x, y, rng.child("here")), _Mean(model, x, y, rng.child("there"))
    return Draws(number, _cosine(here.over(number), there.over(2 * number)))


class _Mean:
    """The sum of gradients over draws, which grows as more are asked for."""

    def __init__(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> None:
        self.model, self.x, self.y, self.rng = model, x, y, rng
        self.total, self.drawn = torch.zeros_like(x), 0

    def over(self, draws: int) -> Images:
        while self.drawn < draws:
            stream = self.rng.child("draw", self.drawn)
            self.total += self.model.input_gradient(self.x, self.y, _doubt, rng=stream).gradient
            self.drawn += 1
        return self.total / draws


def _doubt(logits: Logits, y: Labels) -> Tensor:
    """Minus the label's probability."""
    return -logits.softmax(1).gather(1, y[:, None])[:, 0]


def _cosine(a: Images, b: Images) -> float:
    return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).mean().item()
