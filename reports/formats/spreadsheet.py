"""Tables as CSV in which no text is a formula to a spreadsheet."""

from __future__ import annotations

import pandas as pd

__all__ = ["csv"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def csv(frame: pd.DataFrame) -> str:
    """Return the text of the file."""
    words = frame.select_dtypes(exclude="number").columns
    defused = frame.assign(**{name: frame[name].map(_defused) for name in words})
    return defused.to_csv(index=False, lineterminator="\n")


def _defused(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
