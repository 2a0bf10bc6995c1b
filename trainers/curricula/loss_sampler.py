"""Draw the images of the next step among K batches' worth of them, by their losses.

"Sample Loss Sampler", the sibling of ``loss_order`` whose items are images: before each step K b of all training images
are drawn at random, b being the batch size, and of them a batch, no image twice, one image after the other with

    P(i) proportional to 1 / (CE(f(x_i), y_i) + 1e-8)    (``inverse``)
    P(i) proportional to CE(f(x_i), y_i)                 (``direct``)

among those that are not drawn yet; or those of ``smallest`` or ``largest`` loss, or any (``uniform``, without a
score). Steps are independent: an image may come again in the next. There are no passes; n / b steps count as one.

Default: K = 8 and ``inverse``, the counterpart of ``loss_order`` in its ascending order, which it is reported to equal.

Choices where the description is silent: how many candidates there are, drawn without replacement; losses as in
``loss_order``, of the images as they would be trained on, in random batches with their BatchNorm statistics. A step
costs K forward passes more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from robust_eval.fields import Whole
from robust_eval.methods import FORWARD, Choice, Curriculum, Order, Task, Trial
from robust_eval.registry import register
from trainers.curricula._candidates import drawn, scored
from trainers.curricula._passes import require_batches

__all__ = ["LossSampler"]

LEAST = 1e-8
"""Added to a loss before it divides."""


@register("curriculum", "loss_sampler")
@dataclass(frozen=True, kw_only=True)
class LossSampler(Curriculum):
    """Images drawn by loss."""

    k: Annotated[Whole, Field(ge=1)] = 8
    """How many times as many candidates as a batch has images."""
    weighting: Literal["inverse", "direct", "smallest", "largest", "uniform"] = "inverse"
    """By inverse loss, by loss, those of smallest or of largest loss, or any."""

    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` for more candidates than there are images."""
        require_batches("loss_sampler", self.k, task)
        return _Sampled(self, task)

    def evaluations(self, task: Task) -> float:
        """Return the forward passes over the candidates of a step."""
        return FORWARD * self.k * task.batch_size if self._scores else 0.0

    @property
    def _scores(self) -> bool:
        return self.k > 1 and self.weighting != "uniform"


class _Sampled(Order):
    def __init__(self, method: LossSampler, task: Task) -> None:
        self.method, self.task = method, task

    def next(self, trial: Trial) -> Choice:
        batches = drawn(self.task, trial.step, self.method.k)
        if not self.method._scores:
            return Choice(batches[0])
        rows, losses = scored(trial, batches)
        b = self.task.batch_size
        if self.method.weighting in ("smallest", "largest"):
            return Choice(rows[:b] if self.method.weighting == "smallest" else rows[-b:])
        weights = losses if self.method.weighting == "direct" else 1 / (losses + LEAST)
        generator = self.task.rng.child("sample", trial.step).torch_generator()
        return Choice(rows[_without_replacement(weights, b, generator)])


def _without_replacement(weights: Float[Tensor, " m"], number: int, generator: torch.Generator) -> Tensor:
    """Draw one after the other, each with odds of these weights among those left.

    The first arrivals of Poisson processes of these rates: Efraimidis and Spirakis 2006, "Weighted random sampling with
    a reservoir". A weight of 0 is drawn only where no others are left.
    """
    arrivals = torch.empty_like(weights).exponential_(generator=generator) / weights
    return arrivals.argsort(stable=True)[:number]
