"""Turns a recipe into an optimizer and a learning rate for each step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from robust_eval.recipe import Recipe

__all__ = ["learning_rate", "make_optimizer"]

WARM_UP = 0.05


def make_optimizer(recipe: Recipe, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Nesterov's SGD with momentum 0.9, or Adam, both decaying every weight."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(weights, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        weights, lr=recipe.lr, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
    )


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the rate of step 0..steps-1: linear over the first 5 %, then constant or half a cosine."""
    warm = math.ceil(WARM_UP * steps)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lr * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
