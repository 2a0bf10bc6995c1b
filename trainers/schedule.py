"""How the budget of a training becomes steps: how many a stage has, the learning rate of each, and when it ends.

The budget is counted in network evaluations, so a stage whose steps cost more has fewer of them. Stages that continue
each other share one learning-rate schedule, which is counted in steps of the stage that is running.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from robust_eval.methods import Stage
from robust_eval.models.recipe import Recipe

__all__ = ["Plateau", "StageSchedule", "learning_rate"]


@dataclass(frozen=True, kw_only=True)
class StageSchedule:
    """The arithmetic of one stage; a step is a number from 0 to ``steps - 1``."""

    recipe: Recipe
    cost: float
    """What a step takes of the budget, in all processes together."""
    done: float
    """Share of the budget that was done when the stage began."""
    share: float
    """Share of the budget that is its own, with what the stage before left."""
    images: int
    """Training images."""
    steps: int
    steps_per_pass: int
    earlier: int
    """Steps of the learning-rate schedule before this stage."""
    later: int
    """Steps of it after this stage."""
    returned: Literal["last", "best"]
    """Which of its weights go to the next stage, or are the result."""
    give_up_after: int | None
    """Passes without a higher validation accuracy after which it ends; the last stage never gives up."""
    goes_on: bool
    """Whether the next stage continues this one."""

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        stages: Sequence[Stage],
        number: int,
        *,
        images: int,
        cost: float,
        done: float,
        carried: float,
        scheduled_from: float,
    ) -> StageSchedule:
        """Return the schedule of stage ``number`` of a training on so many ``images``.

        Of the whole budget, ``done`` is spent, the stage before left ``carried`` of its share, and the learning-rate
        schedule began at ``scheduled_from``.
        """
        stage, last = stages[number], number + 1 == len(stages)
        continuations = list(takewhile(lambda later: later.continues, stages[number + 1 :]))
        share = stage.share + carried
        steps = max(1, round(share * recipe.epochs * images / cost))
        return cls(
            recipe=recipe,
            cost=cost,
            done=done,
            share=share,
            images=images,
            steps=steps,
            steps_per_pass=max(1, round(images / cost)),
            earlier=round(steps * (done - scheduled_from) / share),
            later=round(steps * sum(each.share for each in continuations) / share),
            returned=recipe.checkpoint if last else stage.hand_over,
            give_up_after=None if last else stage.give_up_after,
            goes_on=bool(continuations),
        )

    def progress(self, step: int) -> float:
        """Return the share of the whole budget that is spent before this step."""
        return self.done + self.share * step / self.steps

    def learning_rate(self, step: int, halvings: int) -> float:
        """Return the rate of this step, after so many ``halvings`` by a :class:`Plateau`."""
        whole = self.earlier + self.steps + self.later
        return learning_rate(self.recipe, self.earlier + step, whole, halvings)

    def ends_pass(self, step: int) -> bool:
        """Whether the training data has been passed once more after this step, or the stage is at its end."""
        return (step + 1) % self.steps_per_pass == 0 or step + 1 == self.steps

    def is_spent(self, evaluations: int) -> bool:
        """Whether so many network evaluations in this stage are all that it has, to the nearest step."""
        return (
            self.recipe.budget == "evaluations"
            and evaluations + self.cost / 2 > self.share * self.recipe.epochs * self.images
        )

    def gives_up(self, waited: int) -> bool:
        """Whether the stage ends after so many passes without a higher validation accuracy."""
        return self.give_up_after is not None and waited >= self.give_up_after

    def left(self, steps: int) -> float:
        """Return the share of the budget that the stage leaves when it ends after so many steps."""
        return self.share * (1 - steps / self.steps)


def learning_rate(recipe: Recipe, step: int, steps: int, halvings: int = 0) -> float:
    """Return the rate of step 0..steps-1 of a stage, after so many ``halvings`` by a :class:`Plateau`."""
    if recipe.schedule == "one_cycle":
        return _one_cycle(recipe.lr, step, steps)
    warm = math.ceil(recipe.warm_up * steps)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    done = step / steps
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
    if recipe.schedule == "step":
        # a share such as 0.3 has no exact double: three of them are a little less than 0.9
        return recipe.lr * float(recipe.decay ** int(done / recipe.step_every + 1e-9))
    if recipe.schedule == "multi_step":
        return recipe.lr * float(recipe.decay ** sum(done >= milestone for milestone in recipe.milestones))
    if recipe.schedule == "halve_on_plateau":
        return recipe.lr * 0.5**halvings
    return recipe.lr


RISE, START, END = 0.3, 25.0, 1e4
"""One cycle: the part that rises, the first rate below the highest, and the last below the first."""


def _one_cycle(lr: float, step: int, steps: int) -> float:
    top = RISE * steps - 1
    low, lowest = lr / START, lr / START / END
    if step <= top:
        return _between(low, lr, step / top)
    return _between(lr, lowest, (step - top) / (steps - 1 - top)) if steps > 1 else lr


def _between(first: float, last: float, share: float) -> float:
    """Half a cosine from one rate to another."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


@dataclass
class Plateau:
    """Counts how often a running loss has not reached a new low for ``patience`` steps."""

    patience: int
    halvings: int = 0
    running: float = math.nan
    lowest: float = math.inf
    waited: int = 0

    def see(self, loss: float) -> None:
        """Take in the loss of a step; it is averaged over some fifty of them."""
        self.running = loss if math.isnan(self.running) else 0.98 * self.running + 0.02 * loss
        if self.running < self.lowest:
            self.lowest, self.waited = self.running, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.halvings, self.waited = self.halvings + 1, 0
