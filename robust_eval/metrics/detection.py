"""Can a model tell images that are none of its classes from its own? Detection out of distribution, by its logits z.

A *score* is high for the model's own images, which are the positives. ``max_softmax``: the largest probability p
(Hendrycks and Gimpel 2017, arXiv 1610.02136); here ``log p / (1 - p)``, which puts images into the same order but does
not round confident ones to one. ``energy``: ``log Σ_k exp z_k``, the energy with its sign turned, at temperature 1 (Liu
et al. 2020, arXiv 2010.03759). ``max_logit``: the largest z_k (Hendrycks et al. 2022, arXiv 1911.11132). An
output that is not finite is none of the model's own.

*Measures*, each for both sets as they are, right or wrong:

``tnr_at_95_tpr``
    share of other images below the highest threshold that keeps at least 95 % of the own ones
``auroc``
    chance that an own image scores higher than another one, ties by half; 0.5 for a score that knows nothing
``aupr_in``, ``aupr_out``
    average precision with own images as positives, or the others; for a blind score the share of positives
``detection_accuracy``
    ``max_t ½ (TPR(t) + TNR(t))``, at least 0.5

Intervals are percentiles of a bootstrap over images, of both sets, and the same for all scores. scikit-learn, which has
two of the measures, would be called for each of a thousand draws; here many are counted at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robust_eval.rng import Rng

__all__ = ["MEASURES", "measure"]

MEASURES = ("tnr_at_95_tpr", "auroc", "aupr_in", "aupr_out", "detection_accuracy")
AT_ONCE = 1 << 20
"""Numbers of a bootstrap held at a time: bounds memory."""


def measure(
    scores: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], *, rng: Rng, resamples: int = 1000
) -> pd.DataFrame:
    """Return the measures of named scores, each given for the model's own images [n] and for the others [m].

    One line for each score and measure: ``score metric value ci_low ci_high n_in n_out``.
    """
    lines = []
    for name, (inside, outside) in scores.items():
        distinct, place = np.unique(-np.concatenate([inside, outside]), return_inverse=True)
        places = np.split(place, [len(inside)])
        ones = (np.arange(len(inside))[None], np.arange(len(outside))[None])
        values = _measures(*(_counts(*pair, len(distinct)) for pair in zip(places, ones, strict=True)))
        drawn = [
            _measures(*(_counts(*pair, len(distinct)) for pair in zip(places, draws, strict=True)))
            for draws in _resampled(len(inside), len(outside), resamples, rng)
        ]
        low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5], axis=0)
        lines += [
            (name, metric, *map(float, numbers), len(inside), len(outside))
            for metric, *numbers in zip(MEASURES, values[0], low, high, strict=True)
        ]
    return pd.DataFrame(lines, columns=["score", "metric", "value", "ci_low", "ci_high", "n_in", "n_out"])


def _counts(place: NDArray[Any], draws: NDArray[Any], distinct: int) -> NDArray[Any]:
    """Return how many of the drawn images [b,n] have each distinct score [b,distinct], highest first."""
    offset = np.arange(len(draws))[:, None] * distinct
    counts = np.bincount((place[draws] + offset).ravel(), minlength=len(draws) * distinct)
    return counts.reshape(len(draws), distinct).astype(float)


def _resampled(n: int, m: int, resamples: int, rng: Rng) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield which images are drawn, with replacement, from each set: ``resamples`` times, a few at once."""
    generator = rng.numpy()
    step = max(1, AT_ONCE // (n + m))
    for start in range(0, resamples, step):
        b = min(step, resamples - start)
        yield generator.integers(0, n, (b, n)), generator.integers(0, m, (b, m))


def _measures(inside: NDArray[Any], outside: NDArray[Any]) -> NDArray[Any]:
    """Return the measures [b,5] from how many images have each distinct score [b,u], highest first."""
    tp, fp = inside.cumsum(1), outside.cumsum(1)
    n, m = tp[:, -1:], fp[:, -1:]
    # counts are whole numbers: 0.95 n is not
    kept = (tp >= np.ceil(0.95 * n - 1e-9)).argmax(1)[:, None]
    return np.stack(
        [
            1 - (np.take_along_axis(fp, kept, 1) / m)[:, 0],
            (outside * (tp - inside / 2)).sum(1) / (n * m)[:, 0],
            _average_precision(inside, tp, fp),
            _average_precision(outside, m - fp + outside, n - tp + inside),
            np.maximum(0.5, 0.5 * (1 + (tp / n - fp / m).max(1))),
        ],
        axis=1,
    )


def _average_precision(positives: NDArray[Any], tp: NDArray[Any], fp: NDArray[Any]) -> NDArray[Any]:
    """Return the mean precision at the score of each positive; tp and fp are those it has or more."""
    precision = tp / np.maximum(tp + fp, 1)
    average: NDArray[Any] = (positives * precision).sum(1) / positives.sum(1)
    return average
