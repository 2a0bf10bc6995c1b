"""Mixes images and their targets: the arithmetic that training and test time share.

Everything here is a pure function of its arguments. ``lam`` always weights the first sample. A target is
a row of class probabilities.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from robust_eval.types import Labels

__all__ = [
    "Box",
    "fading_coefficients",
    "gradual_coefficients",
    "mix",
    "random_box",
    "soft_targets",
    "sum_augment",
]

Rows = Float[Tensor, "n *shape"]
"""Images, feature maps or targets: whatever has one row for each example."""
FewerRows = Float[Tensor, "s *shape"]
Targets = Float[Tensor, "n k"]


def mix(x: Rows, x_other: Rows, lam: float | Float[Tensor, " n"]) -> Rows:
    """Return ``lam * x + (1 - lam) * x_other``, with one ``lam`` for all rows or one for each."""
    if isinstance(lam, Tensor):
        return torch.lerp(x_other, x, lam.to(x.dtype).view(-1, *[1] * (x.ndim - 1)))
    return torch.lerp(x_other, x, float(lam))


def soft_targets(y: Labels, classes: int) -> Targets:
    """Return labels as rows of probabilities, all of it on the true class."""
    return functional.one_hot(y.long(), classes).float()


class Box(NamedTuple):
    """A rectangle of pixels to be replaced: ``x[..., box.rows, box.columns]``."""

    rows: slice
    columns: slice
    kept: float
    """Fraction of the picture outside the box, in [0, 1]: the weight of the picture that is kept."""


def random_box(h: int, w: int, lam: float, generator: torch.Generator) -> Box:
    """Draw CutMix's box: about ``1 - lam`` of the area, centred on a uniform pixel and clipped at the border.

    Its sides are even, and the clipping only ever shrinks it: use ``kept``, not ``lam``, to mix the targets.
    """
    side = math.sqrt(1 - lam)
    row = int(torch.randint(h, (), generator=generator))
    column = int(torch.randint(w, (), generator=generator))
    tall, wide = int(h * side) // 2, int(w * side) // 2
    top, bottom = max(row - tall, 0), min(row + tall, h)
    left, right = max(column - wide, 0), min(column + wide, w)
    kept = 1 - (bottom - top) * (right - left) / (h * w)
    return Box(slice(top, bottom), slice(left, right), kept)


def sum_augment(x: Rows, k: int) -> FewerRows:
    """Average ``k`` rows into one: ``x'[i] = 1/k sum_j x[i + j s]`` with ``s = n // k``.

    The last ``n - k s`` rows are left out. Give it images and targets alike. Raises ``ValueError`` unless
    ``1 <= k <= n``.
    """
    if not 1 <= k <= len(x):
        raise ValueError(f"expected 1 <= k <= {len(x)}, the number of rows to average, got k={k}")
    s = len(x) // k
    return x[: k * s].reshape(k, s, *x.shape[1:]).mean(0)


def gradual_coefficients(n: int, t: float) -> list[float]:
    """Return GCC_n(t): the weights of n things at time ``t`` in [0, 1], from 1/n each to all on the first."""
    # at a knot, floor may miss by rounding what is continuous anyway
    gone = min(math.floor(t * (n - 1) + 1e-12), n - 1)
    return [*fading_coefficients(n - gone, max(t * (n - 1) - gone, 0.0)), *[0.0] * gone]


def fading_coefficients(used: int, faded: float) -> list[float]:
    """Return the weights of those in use when the last of them has gone this part of its way out."""
    if used == 1:
        return [1.0]
    last = (1 - faded) ** 2 / used
    return [*[(1 - last) / (used - 1)] * (used - 1), last]
