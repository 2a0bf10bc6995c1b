"""The numbers of a cell, from its rows alone: they can be computed anew for a record that is there."""

from __future__ import annotations

import pandas as pd

from robust_eval.checks.examination import Examination
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Attack
from robust_eval.metrics.accuracy import accuracy, median_distance, score_within
from robust_eval.metrics.classification import likelihood
from robust_eval.results.cell import Cell
from robust_eval.results.estimates import STRATUM, estimate_of
from robust_eval.results.record import Record

__all__ = ["rescored", "summarise"]

CERTIFIED_AT = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Radii in l2 at which Cohen et al. 2019 (arXiv 1902.02918) state certified accuracies of CIFAR-10, up to 1."""

_SCORES = {"score": "accuracy", "majority": "accuracy_majority", "worst": "accuracy_worst_of_k"}
"""Columns of rows, and what their means are called."""


def summarise(cell: Cell, rows: pd.DataFrame) -> tuple[Measurement, ...]:
    """Return the numbers of a cell, computed from its rows alone; an examination has none."""
    if isinstance(cell.perturbation, Examination):
        return ()
    if isinstance(cell.perturbation, Analysis):
        return cell.perturbation.summary(rows)
    attack = cell.perturbation if isinstance(cell.perturbation, Attack) else None
    eps = attack.threat.eps if attack else None
    if (
        STRATUM in rows
    ):  # other means over these rows are nobody's: images that are hard to tell are more among them
        return tuple(
            estimate_of(rows, score=score, metric=metric, eps=eps)
            for score, metric in _SCORES.items()
            if score in rows
        )
    numbers: list[Measurement]
    if attack is not None and attack.minimal_norm:
        at_radii = [accuracy(score_within(rows, radius), eps=radius) for radius in cell.score_at]
        numbers = [*at_radii, median_distance(rows)]
    else:
        numbers = [accuracy(rows["score"], eps=eps)]
        if "majority" in rows:
            numbers += [
                accuracy(rows[score], metric=_SCORES[score], eps=eps) for score in ("majority", "worst")
            ]
    numbers += [m for m in likelihood(rows) if not m.metric.startswith(("calibration", "confidence"))]
    if "certified_radius" in rows:
        assert cell.defense is not None
        largest = cell.defense.largest_certificate
        numbers += [_certified_accuracy(rows, radius, largest) for radius in CERTIFIED_AT]
    if "target" in rows and rows["attacked"].any():
        aimed = rows[rows["attacked"]]
        reached = (aimed["prediction"] == aimed["target"]).astype(float)
        numbers.append(accuracy(reached, metric="target_reached", eps=eps))
    return tuple(numbers)


def _certified_accuracy(rows: pd.DataFrame, radius: float, largest: float) -> Measurement:
    """Return the share certified beyond a radius; no number where the defense cannot certify as much of any model."""
    if radius >= largest:
        return Measurement("certified_accuracy", None, None, None, len(rows), radius)
    certified = (rows["certified_prediction"] == rows["label"]) & (rows["certified_radius"] > radius)
    return accuracy(certified.astype(float), metric="certified_accuracy", eps=radius)


def rescored(record: Record, cell: Cell) -> Record:
    """Return the record of a finished cell with the names and radii asked for now, recomputed from its rows."""
    radii = {m.eps for m in record.summary if m.metric == "accuracy" and m.eps is not None}
    widened = Cell(
        **{name: getattr(cell, name) for name in cell.__dataclass_fields__ if name != "score_at"},
        score_at=tuple(sorted({*radii, *cell.score_at})),
    )
    summary = summarise(widened, record.rows)
    return Record(
        record.key, record.spec, cell.labels, summary, record.checks, record.provenance, record.rows
    )
