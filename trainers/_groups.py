"""Mixes groups of a batch with a coefficient for each group: sum augmentation with coefficients that differ.

Coefficients are given, or drawn around those that are: from the Dirichlet distribution whose means they are and whose
largest parameter is α. Around equal ones that is the symmetric one; of two it is mixup's λ ~ Beta(α, α) and 1 - λ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from robust_eval.rng import Rng

__all__ = ["Coefficients", "drawn", "weigh"]

Coefficients = Literal["uniform", "beta", "random"]
"""``uniform``: as given. ``beta``: drawn around them with a parameter α. ``random``: with α = 1, so that around equal
ones any that sum to one are as likely as any others."""


def drawn(means: Sequence[float], kind: Coefficients, alpha: float, *, rng: Rng) -> list[float]:
    """Return the coefficients of a batch; those with mean 0 stay there."""
    if kind == "uniform":
        return list(means)
    largest = alpha if kind == "beta" else 1.0
    parameters = largest * np.asarray(means) / max(means)
    coefficients = np.zeros(len(means))
    there = parameters > 0
    coefficients[there] = rng.child("coefficients").numpy().dirichlet(parameters[there])
    return [float(c) for c in coefficients]


def weigh(x: Float[Tensor, "n *shape"], coefficients: Sequence[float]) -> Float[Tensor, "s *shape"]:
    """Return ``x'[i] = sum_j c_j x[i + j s]`` with ``s = n // len(c)``; the last ``n - s len(c)`` rows are left out.

    Give it images and targets alike.
    """
    s = len(x) // len(coefficients)
    first, *others = coefficients
    mixed = first * x[:s]
    # in place, group by group: no copy of the whole batch, and nothing that autocast would round
    for j, c in enumerate(others, start=1):
        mixed.add_(x[j * s : (j + 1) * s], alpha=c)
    return mixed
