"""Turns a recipe into an optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from robust_eval.models.recipe import Recipe

__all__ = ["make_optimizer"]


ALONE = {"weight_decay": 0.0, "momentum": 0.0, "nesterov": False, "betas": (0.0, 0.999)}
"""Of a companion: with no memory of earlier directions and no decay, a weight whose gradient is 0 stays."""


def make_optimizer(
    recipe: Recipe, weights: Iterable[nn.Parameter], companion: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over every weight that needs a gradient, and over those of a companion."""
    wanted: list[dict[str, Any]] = [{"params": [weight for weight in weights if weight.requires_grad]}]
    if companion is not None:
        wanted.append({"params": list(companion.parameters()), **ALONE})
    lr, decay = recipe.lr, recipe.weight_decay
    usual = 1e-10 if recipe.optimizer == "adagrad" else 1e-8
    epsilon = usual if recipe.epsilon is None else recipe.epsilon
    if recipe.optimizer == "adam":
        return torch.optim.Adam(wanted, lr=lr, betas=recipe.betas, weight_decay=decay, eps=epsilon)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(wanted, lr=lr, betas=recipe.betas, weight_decay=decay, eps=epsilon)
    if recipe.optimizer == "adagrad":
        return torch.optim.Adagrad(wanted, lr=lr, weight_decay=decay, eps=epsilon)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            wanted, lr=lr, alpha=recipe.smoothing, weight_decay=decay, momentum=recipe.momentum, eps=epsilon
        )
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(wanted, lr=lr, momentum=recipe.momentum, nesterov=nesterov, weight_decay=decay)
