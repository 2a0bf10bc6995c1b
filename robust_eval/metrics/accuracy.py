"""Numbers computed from per-example rows, each with its 95 % interval."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.stats import binom

from robust_eval.errors import DataError
from robust_eval.findings import Measurement
from robust_eval.metrics.intervals import wilson

__all__ = ["accuracy", "accuracy_gap", "median_distance", "score_within"]


def accuracy(score: pd.Series[float], *, metric: str = "accuracy", eps: float | None = None) -> Measurement:
    """Return the mean of per-example scores in [0, 1] with Wilson's interval."""
    total, n = float(score.sum()), len(score)
    low, high = wilson(total, n)
    return Measurement(metric, total / n, low, high, n, eps)


def accuracy_gap(rows: pd.DataFrame, other: pd.DataFrame, *, metric: str = "accuracy_gap") -> Measurement:
    """Return accuracy on ``rows`` - accuracy on ``other``: sets of different images, such as CIFAR-10 and CIFAR-10.1.

    The interval is made of Wilson's two (Newcombe 1998, method 10); for the same images it would be too wide. ``n`` is
    that of ``other``. Raises ``DataError`` for an empty set.
    """
    if not len(rows) or not len(other):
        raise DataError(
            f"accuracy gap: expected images in both sets, got {len(rows)} and {len(other)}; give rows of a record"
        )
    (p, lower, upper), (q, other_lower, other_upper) = (
        (table["score"].mean(), *wilson(float(table["score"].sum()), len(table))) for table in (rows, other)
    )
    below, above = math.hypot(p - lower, other_upper - q), math.hypot(upper - p, q - other_lower)
    return Measurement(metric, float(p - q), float(p - q - below), float(p - q + above), len(other))


def score_within(rows: pd.DataFrame, eps: float) -> pd.Series[float]:
    """Return per-example scores against a minimal-norm attack that may spend ``eps``.

    An example counts with its perturbed score where the perturbation found is within the radius, else with
    its clean one. Distances are met with a tolerance of 1e-6, the rounding of float32 pixels.
    """
    return rows["score"].where(rows["distance"] <= eps + 1e-6, rows["clean_score"])


def median_distance(rows: pd.DataFrame) -> Measurement:
    """Return the median distance over the attacked examples; ``None`` where most of them resisted.

    An example is fooled where the model that is scored fails on it, on most draws for a stochastic one. The
    interval is the exact one for a median, between two order statistics.
    """
    attacked = rows[rows["attacked"]]
    found = attacked["distance"].where(attacked["score"] < 0.5, np.inf)
    ordered = np.sort(found.to_numpy(dtype=float))
    n = len(ordered)
    if not n:
        return Measurement("median_distance", None, None, None, 0)
    below = int(binom.ppf(0.025, n, 0.5))
    value, low, high = float(np.median(ordered)), ordered[max(below - 1, 0)], ordered[min(n - below, n - 1)]
    return Measurement("median_distance", _number(value), _number(low), _number(high), n)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
