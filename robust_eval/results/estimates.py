"""What a record says that attacked some of its images: the estimate for all of them, alone and as a worst case.

The rows of such a record are of the images whose outcome is known: those that were attacked, each with its ``stratum``
and that stratum's number of images as ``stratum_size``, and those that no attack is made on, as they are wrong already,
with stratum -1. The mean of these rows is nobody's accuracy: images that are hard to tell are more among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robust_eval.findings import Measurement
from robust_eval.metrics.estimation import Estimated, Sampled, estimated
from robust_eval.results.record import Record

__all__ = ["SIZE", "STRATUM", "SURE", "estimate_of", "is_estimate", "measured", "sampled", "together"]

STRATUM, SIZE = "stratum", "stratum_size"
ALIKE = 0.98
"""Share of the images that two records have in common from which on their strata are taken for the same."""
SURE = -1
"""The stratum of images whose outcome is known without an attack."""


def is_estimate(record: Record) -> bool:
    """Whether a record's accuracy was made from a part of the images."""
    return any(number.estimated_for is not None for number in record.summary)


def sampled(rows: pd.DataFrame, score: str = "score") -> Sampled:
    """Return the rows of such a record stratum by stratum."""
    sure = rows[STRATUM] == SURE
    by = rows[~sure].groupby(STRATUM, sort=True)
    return Sampled(
        np.asarray(by[SIZE].first(), dtype=np.int64),
        np.asarray(by.size(), dtype=np.int64),
        np.asarray(by[score].sum(), dtype=np.float64),
        int(sure.sum()),
        float(rows.loc[sure, score].sum()),
    )


def estimate_of(
    rows: pd.DataFrame, *, score: str = "score", metric: str = "accuracy", eps: float | None = None
) -> Measurement:
    """Return the accuracy on all images; its interval is that of a measured share, and wider by the estimate's own."""
    known = sampled(rows, score)
    return measured(known, estimated(known), metric, eps)


def measured(known: Sampled, found: Estimated, metric: str, eps: float | None) -> Measurement:
    """Return an estimate as a number of a record."""
    low, high = found.elsewhere
    return Measurement(metric, found.value, low, high, known.attacked, eps, known.images)


def together(records: Sequence[Record], scores: pd.Series[float]) -> Sampled | None:
    """Return the least scores over attacks of one model, by index, as a sample of all images.

    They are of the images that all records hold. Where one attack was estimated, or several by the same strata, those
    are the first of each stratum in one random order, which are a sample as good as any. ``None`` where strata differ
    by more than rounding on another machine moves, or where images that one attack is not made on are missing from
    another: then nothing is known of all images.
    """
    parts = [record.rows.set_index("index")[[STRATUM, SIZE]] for record in records if is_estimate(record)]
    # a plain estimate has one stratum, which those of another part
    finest = max(parts, key=lambda part: part[STRATUM].nunique())
    if not all(_fits(part, finest) for part in parts):
        return None
    known = sampled(finest.loc[scores.index].assign(score=scores).reset_index())
    # a stratum of which no image is left says nothing of its own
    return known if len(known.sizes) == len(set(finest[STRATUM]) - {SURE}) else None


def _fits(part: pd.DataFrame, finest: pd.DataFrame) -> bool:
    """Whether an estimate's images, by index, are a sample within the strata of another."""
    attacked, others = part[part[STRATUM] != SURE], finest[finest[STRATUM] != SURE]
    if set(part.index) - set(attacked.index) != set(finest.index) - set(others.index):
        return False
    if attacked[STRATUM].nunique() <= 1:
        return True
    one, other = attacked.align(others, join="inner", axis=0)
    sizes = [own.groupby(STRATUM)[SIZE].first() for own in (attacked, others)]
    return sizes[0].equals(sizes[1]) and bool((one[STRATUM] == other[STRATUM]).mean() >= ALIKE)
