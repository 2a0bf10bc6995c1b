"""Train on the part of each step's candidates that has the smallest losses; what is left out grows at first.

For labels of which some are wrong: these are learnt last. Han et al. 2018, "Co-teaching: Robust Training of Deep Neural
Networks with Extremely Noisy Labels", https://arxiv.org/abs/1804.06872, algorithm 1:

    kept in pass T:  the R(T) of smallest loss,    R(T) = 1 - min(T / T_k tau, tau)

Defaults: T_k = 10 as in the paper; tau, which it sets to the share of wrong labels, is .2.

Deviations: one network chooses for itself, where the paper's two choose for each other (ours; so the errors of its
choice add up, which is what the second network is for). The paper keeps R b of b images; here b of b / R candidates are
kept, so that each step trains a full batch (ours). Candidates are those of shuffled passes, each image once; a pass has
R n / b steps and T counts them from 0. What is left of a pass, fewer than a step's candidates, is dropped. A step costs
a forward pass of its candidates more, none while R = 1. T goes on from stage to stage of a regularizer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from robust_eval.errors import ConfigError
from robust_eval.fields import Real
from robust_eval.methods import FORWARD, Choice, Curriculum, Order, Task, Trial
from robust_eval.registry import register
from trainers.curricula._candidates import scored

__all__ = ["SmallLoss"]


@register("curriculum", "small_loss")
@dataclass(frozen=True, kw_only=True)
class SmallLoss(Curriculum):
    """The images of smallest loss, for wrong labels."""

    forget: Annotated[Real, Field(ge=0, lt=1)] = 0.2
    """tau: part of the candidates that is left out in the end, such as the share of wrong labels."""
    over: Annotated[Real, Field(gt=0)] = 10.0
    """T_k: passes until then."""

    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` for more candidates than there are images."""
        wanted, images = self._candidates(task, 1 - self.forget), len(task.labels)
        if wanted > images:
            raise ConfigError(
                f"small_loss: expected forget of at most {1 - task.batch_size / images:.3g}, a batch of "
                f"{task.batch_size} from {images} training images, got {self.forget:g}; lower forget or batch_size"
            )
        return _Kept(self, task)

    def evaluations(self, task: Task) -> float:
        """Return the forward pass over the candidates of a step once R is at its lowest: at most that."""
        return FORWARD * self._candidates(task, 1 - self.forget) if self.forget else 0.0

    def _share(self, passes: int) -> float:
        """R(T)."""
        return 1 - min(passes / self.over, 1) * self.forget

    def _candidates(self, task: Task, share: float) -> int:
        # a share such as 0.8 has no exact double
        return math.ceil(task.batch_size / share - 1e-9)


class _Kept(Order):
    def __init__(self, method: SmallLoss, task: Task) -> None:
        self.method, self.task = method, task
        self.passes = self.place = 0

    def next(self, trial: Trial) -> Choice:
        number = self._number()
        if self.place + number > len(self.task.labels):
            self.passes, self.place = self.passes + 1, 0
            number = self._number()
        rows = self._shuffled()[self.place : self.place + number]
        self.place += number
        if number > self.task.batch_size:
            rows = scored(trial, rows[None]).rows[: self.task.batch_size]
        return Choice(rows)

    def state(self) -> dict[str, Any]:
        return {"passes": self.passes, "place": self.place}

    def restore(self, state: dict[str, Any]) -> None:
        self.passes, self.place = state["passes"], state["place"]

    def follow(self, state: dict[str, Any]) -> None:
        self.passes = state["passes"] + 1

    def _number(self) -> int:
        return self.method._candidates(self.task, self.method._share(self.passes))

    def _shuffled(self) -> torch.Tensor:
        generator = self.task.rng.child("pass", self.passes).torch_generator()
        return torch.randperm(len(self.task.labels), generator=generator)
