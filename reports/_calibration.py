"""Does a model know when it is right? From the confidences of the clean images' rows.

Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3): over 15 bins of equal width on (0, 1],
``Σ_b n_b / n |accuracy_b - confidence_b|``. It does not tell too much confidence from too little, which mixing methods
cause, so the gap of the means stands beside it with its sign.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from robust_eval.record import Measurement

__all__ = ["CALIBRATION", "calibration"]

BINS = 15
CALIBRATION = ("calibration_error", "confidence_gap")
"""The metrics' names."""


def calibration(rows: pd.DataFrame) -> list[Measurement]:
    """Return calibration error and signed gap, mean confidence - accuracy; nothing for rows without confidences."""
    if not {"confidence", "prediction", "label"} <= set(rows.columns) or not len(rows):
        return []
    confidence = rows["confidence"].fillna(0.0).to_numpy(dtype=float)
    right = (rows["prediction"] == rows["label"]).to_numpy(dtype=float)
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=BINS)
    n = len(rows)
    values = (float(np.abs(gap).sum() / n), float((confidence - right).mean()))
    return [Measurement(name, value, None, None, n) for name, value in zip(CALIBRATION, values, strict=True)]
