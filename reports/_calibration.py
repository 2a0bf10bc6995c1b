"""Does a model know when it is right? From the confidences of the clean images' rows.

What the report shows of it; the definitions are in :mod:`robust_eval.classification`.
"""

from __future__ import annotations

import pandas as pd

from robust_eval import classification
from robust_eval.findings import Measurement

__all__ = ["CALIBRATION", "calibration"]

CALIBRATION = ("calibration_error", "calibration_error_equal_mass", "confidence_gap")
"""The metrics' names."""


def calibration(rows: pd.DataFrame) -> list[Measurement]:
    """Return calibration errors by equal width and by equal mass, and the signed gap, mean confidence - accuracy.

    Nothing for rows without confidences.
    """
    return [found for found in classification.calibration(rows) if found.metric in CALIBRATION]
