"""Which of many series are told apart: the best, by their mean; the others are drawn in grey."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from reports.charts.look import order

__all__ = ["Names", "foremost", "only_best", "shown", "sparser"]

_SPARSE = 10


class Names(NamedTuple):
    """What a legend names."""

    all: list[str]
    rest: str | None
    """The name of the others together, which is the last."""


def foremost(
    frame: pd.DataFrame, limit: int, *, by: str = "accuracy", ascending: bool = False
) -> pd.DataFrame:
    """Add the column ``shown``: the name of a ``series`` that is among the best, else one for all others.

    The best have the highest mean of ``by``, or with ``ascending`` the lowest.
    """
    if frame.empty:
        return frame.assign(shown=[])
    best = _best(frame, "series", limit, by, ascending)
    others = frame["series"].nunique() - len(best)
    return frame.assign(
        shown=frame["series"].astype(str).where(frame["series"].isin(best), f"{others} others")
    )


def sparser(frame: pd.DataFrame, *curve: str) -> pd.DataFrame:
    """Return a table with ``shown`` in which the curves of the rest have about ten points, and no marks.

    A curve is what these columns name; its ends stay.
    """
    if frame.empty or (rest := shown(frame).rest) is None:
        return frame
    grey = frame["shown"] == rest
    place = frame.groupby(list(curve), sort=False, observed=True).cumcount()
    size = frame.groupby(list(curve), sort=False, observed=True)["series"].transform("size")
    every = (size // _SPARSE).clip(lower=1)
    if "marked" in frame:
        frame = frame.assign(marked=frame["marked"] & ~grey)
    if "kind" in frame:
        frame = frame.assign(kind=frame["kind"].mask(grey & (frame["kind"] == "marked"), "curve"))
    return frame[~grey | (place % every == 0) | (place == size - 1)]


def only_best(frame: pd.DataFrame, field: str, limit: int, *, by: str = "accuracy") -> pd.DataFrame:
    """Return the rows of the best names of a column, by their mean."""
    return frame if frame.empty else frame[frame[field].isin(_best(frame, field, limit, by, ascending=False))]


def shown(frame: pd.DataFrame) -> Names:
    """Return the names in the column ``shown``, that of the others last."""
    own = set(frame["series"].astype(str))
    names = order(frame["shown"])
    rest = next((name for name in names if name not in own), None)
    return Names([*(name for name in names if name != rest), *([] if rest is None else [rest])], rest)


def _best(frame: pd.DataFrame, field: str, limit: int, by: str, ascending: bool) -> set[str]:
    means = frame.groupby(field, sort=False, observed=True)[by].mean()
    return set(means.sort_values(ascending=ascending, kind="stable").index[:limit])
