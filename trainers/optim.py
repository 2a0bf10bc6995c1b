"""Turns a recipe into an optimizer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from robust_eval.models.recipe import Recipe

__all__ = ["make_optimizer"]


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
