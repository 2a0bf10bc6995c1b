"""Turns a recipe into an optimizer, and into the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from robust_eval.models.recipe import Recipe

__all__ = ["Plateau", "learning_rate", "make_optimizer"]


def make_optimizer(recipe: Recipe, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over every weight that needs a gradient."""
    wanted = [weight for weight in weights if weight.requires_grad]
    lr, decay = recipe.lr, recipe.weight_decay
    if recipe.optimizer == "adam":
        return torch.optim.Adam(wanted, lr=lr, weight_decay=decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(wanted, lr=lr, weight_decay=decay)
    if recipe.optimizer == "adagrad":
        return torch.optim.Adagrad(wanted, lr=lr, weight_decay=decay)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(wanted, lr=lr, weight_decay=decay, momentum=recipe.momentum)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(wanted, lr=lr, momentum=recipe.momentum, nesterov=nesterov, weight_decay=decay)


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
