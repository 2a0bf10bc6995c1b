"""Whether models are as confident as they are right."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Grid
from reports.comparison import comparison
from reports.section import Section, Source
from reports.tables import CLEAN
from robust_eval.metrics.classification import CALIBRATION

__all__ = ["sections"]

NOTE = (
    "On clean images. Expected calibration errors (ECE) are in units of probability, over 15 bins of equal "
    "width or of equal mass. A gap above 0 is too much confidence, below 0 too little."
)
HEADS = ("ECE, equal width", "ECE, equal mass", "mean confidence - accuracy")


def sections(source: Source) -> Iterator[Section]:
    """Yield one table of the calibration metrics on clean images, if confidences are known."""
    tables = [comparison(source.results, metric=name) for name in CALIBRATION]
    rows = tuple(
        (*tables[0].head_texts(line), *(table.text(line, CLEAN, intervals=False) for table in tables))
        for line in tables[0].lines
    )
    if rows:
        names = (*(name.replace("_", " ") for name in tables[0].heads), *HEADS)
        yield Section("Calibration", Grid(names, rows, len(tables[0].heads)), NOTE)
