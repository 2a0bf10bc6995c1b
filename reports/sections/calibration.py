"""Whether models are as confident as they are right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from reports import charts
from reports.bodies import Chart, Grid
from reports.charts.foremost import foremost
from reports.charts.look import LINES
from reports.charts.reliability import reliability
from reports.comparison import comparison
from reports.frames import subject
from reports.section import Section, Source
from reports.tables import CLEAN, counted
from robust_eval.metrics.classification import BINS, CALIBRATION, calibration_error
from robust_eval.metrics.intervals import wilson
from robust_eval.results.entry import Entry

__all__ = ["binned", "sections"]

PANELS = 6
"""Models that have a panel of their own; more share one."""
_COLUMNS = ["panel", "series", "confidence", "accuracy", "low", "high", "images", "error", "told"]
CAPTION = (
    "Reliability on clean images: how many are right where the model is so confident, in the bins of the ECE of equal "
    "width; larger points hold more images, bins of fewer than five have no line and no 95 % interval, and below the "
    "diagonal is too much confidence"
)

NOTE = (
    "On clean images. Expected calibration errors (ECE) are in units of probability, over 15 bins of equal "
    "width or of equal mass. A gap above 0 is too much confidence, below 0 too little."
)
HEADS = ("ECE, equal width", "ECE, equal mass", "mean confidence - accuracy")


def sections(source: Source) -> Iterator[Section]:
    """Yield a table of the calibration metrics on clean images and a diagram, if confidences are known."""
    tables = [comparison(source.results, metric=name) for name in CALIBRATION]
    rows = tuple(
        (*tables[0].head_texts(line), *(table.text(line, CLEAN, intervals=False) for table in tables))
        for line in tables[0].lines
    )
    if rows:
        names = (*(name.replace("_", " ") for name in tables[0].heads), *HEADS)
        yield Section("Calibration", Grid(names, rows, len(tables[0].heads)), NOTE)
    if (chart := _drawing(source)) is not None:
        yield Section("", chart)


def _drawing(source: Source) -> Chart | None:
    frame = binned(source.entries)
    caption = CAPTION
    if (several := frame["series"].nunique()) > LINES:
        caption += f"; in colour are the {LINES} of {several} with the smallest error"
    drawn = foremost(frame, LINES, by="error", ascending=True)
    return charts.figure("reliability", caption, reliability, drawn, wide=frame["panel"].nunique() > 1)


def binned(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return what :func:`reports.charts.reliability.reliability` draws, but for ``shown``: seeds are pooled.

    ``error`` is the calibration error of the series.
    """
    found: dict[tuple[str, str, str], list[pd.DataFrame]] = defaultdict(list)
    for entry in entries:
        labels, rows = entry.labels, entry.record.rows
        if labels["family"] == "clean" and {"confidence", "prediction", "label"} <= set(rows) and len(rows):
            place = (str(labels["model"]), str(labels["data"]), str(labels["defense"]))
            found[place].append(rows[["confidence", "prediction", "label"]])
    several = len({data for _, data, _ in found}) > 1
    apart = len({(model, data) for model, data, _ in found}) <= PANELS
    bins: list[dict[str, object]] = []
    for (model, data, defense), same in found.items():
        name = f"{model} ({data})" if several else model
        whole = subject(name, defense)
        series = ("no defense" if defense == "none" else defense) if apart else whole
        bins += _bins(name if apart else "", series, whole, pd.concat(same))
    return pd.DataFrame(bins, columns=_COLUMNS)


def _bins(panel: str, series: str, whole: str, rows: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Yield each bin of equal width that holds images, the same as those of the calibration error."""
    confidence = rows["confidence"].fillna(0.0).to_numpy(dtype=float)
    right = (rows["prediction"] == rows["label"]).to_numpy(dtype=float)
    error = calibration_error(confidence, right)
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    for number in np.unique(place):
        own = place == number
        images, accuracy, mean = int(own.sum()), float(right[own].mean()), float(confidence[own].mean())
        low, high = wilson(float(right[own].sum()), images)
        yield {
            "panel": panel,
            "series": series,
            "confidence": round(100 * mean, 3),
            "accuracy": round(100 * accuracy, 3),
            "low": round(100 * low, 3),
            "high": round(100 * high, 3),
            "images": images,
            "error": error,
            "told": f"{whole}; confidence {100 * mean:.1f} %: right {100 * accuracy:.1f} %, {counted(images, 'image')}",
        }
