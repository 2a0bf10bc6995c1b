"""Mixes groups of a batch with a coefficient for each group: sum augmentation with coefficients that differ."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

__all__ = ["weigh"]


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
