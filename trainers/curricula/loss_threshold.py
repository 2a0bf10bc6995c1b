"""Train on the images whose loss is below a threshold that grows, so that hard images come later.

Self-paced learning: Kumar, Packer and Koller 2010, "Self-Paced Learning for Latent Variable Models",
https://papers.nips.cc/paper/3923, equation 2, without the norm of the weights:

    min over w and v in {0, 1}^n:  sum_i v_i CE(f(x_i; w), y_i) - T sum_i v_i,    so v_i = 1 where CE_i < T = 1/K

Growth by 1.3, after half of the images at first, is theirs.

Deviations, for stochastic steps (all ours): v is found anew in each step and among K b candidates only, drawn at random
from all training images; the batch is b of those below T, at random. Where fewer are, those of the next larger losses
fill it up: each step trains a full batch, and no step is lost. T is at first the loss that half of the first
candidates are below, and grows once per n / b steps instead of when the weights have converged. When T is above all
losses, batches are random ones. A step costs K forward passes more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from robust_eval.fields import Real, Whole
from robust_eval.methods import FORWARD, Choice, Curriculum, Order, Task, Trial
from robust_eval.registry import register
from trainers.curricula._candidates import drawn, scored
from trainers.curricula._passes import require_batches

__all__ = ["LossThreshold"]


@register("curriculum", "loss_threshold")
@dataclass(frozen=True, kw_only=True)
class LossThreshold(Curriculum):
    """Easy images first, by a threshold of the loss."""

    k: Annotated[Whole, Field(ge=2)] = 2
    """How many times as many candidates as a batch has images."""
    begin: Annotated[Real, Field(gt=0, le=1)] = 0.5
    """Part of the candidates that is below the threshold at first."""
    growth: Annotated[Real, Field(ge=1)] = 1.3
    """What the threshold is multiplied by after each pass."""

    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` for more candidates than there are images."""
        require_batches("loss_threshold", self.k, task)
        return _Paced(self, task)

    def evaluations(self, task: Task) -> float:
        """Return the forward passes over the candidates of a step."""
        return FORWARD * self.k * task.batch_size


class _Paced(Order):
    def __init__(self, method: LossThreshold, task: Task) -> None:
        self.method, self.task = method, task
        self.first: float | None = None
        self.passes = self.last = 0

    def next(self, trial: Trial) -> Choice:
        rows, losses = scored(trial, drawn(self.task, trial.step, self.method.k))
        if self.first is None:
            self.first = losses.quantile(self.method.begin).item()
        passes = self.passes + trial.step // self.task.batches
        threshold, self.last = self.first * self.method.growth**passes, passes
        below = max(int((losses < threshold).sum()), self.task.batch_size)
        generator = self.task.rng.child("sample", trial.step).torch_generator()
        return Choice(rows[torch.randperm(below, generator=generator)[: self.task.batch_size]])

    def state(self) -> dict[str, Any]:
        return {"first": self.first, "passes": self.passes, "last": self.last}

    def restore(self, state: dict[str, Any]) -> None:
        self.first, self.passes, self.last = state["first"], state["passes"], state["last"]

    def follow(self, state: dict[str, Any]) -> None:
        self.first, self.passes = state["first"], state["last"] + 1
