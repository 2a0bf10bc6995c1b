"""Noisy training labels: how much of them each model learnt by heart, beside how right it is on test images."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from reports.bodies import Grid
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.metrics.memorisation import PARTS
from robust_eval.results.entry import Entry
from robust_eval.results.record import Record

__all__ = ["sections"]

NOTE = (
    "Accuracies in %. Untouched and corrupted: training images with true and with wrong labels, against the labels "
    "trained on, at most 1,000 of each, neither mixed nor augmented. Best is the pass with the highest validation "
    "accuracy, or where nothing was held out the highest accuracy of all passes. Of a model that does not learn noise "
    "by heart, the last column is the lower one."
)
HEADS = ("model", "data", "wrong labels", "clean test", "untouched, best / last", "corrupted, best / last")


def sections(source: Source) -> Iterator[Section]:
    """Yield one table of the undefended models that were trained on noisy labels, if there is one.

    Trainings that differ in their seed alone share a line: mean ± standard deviation.
    """
    trainings: dict[tuple[str, str], dict[str, Entry]] = defaultdict(dict)
    for entry in source.entries:
        labels = entry.labels
        if labels["family"] == "clean" and labels["defense"] == "none" and "memorisation" in _training(entry):
            place = (str(labels["model"]), str(labels["data"]))
            # one training measured in several runs, or with several seeds, is one
            trainings[place].setdefault(str(entry.record.labels.get("model_key")), entry)
    rows = [(*place, *_numbers(list(found.values()))) for place, found in trainings.items()]
    if rows:
        yield Section("Label noise", Grid(HEADS, tuple(rows), 2), NOTE)


def _numbers(trained: Sequence[Entry]) -> tuple[str, ...]:
    wrong = _mean([_training(entry).get("wrong_labels") for entry in trained])
    clean = _mean([_clean(entry.record) for entry in trained])
    return (
        wrong,
        clean,
        *(" / ".join(_learnt(trained, part, at) for at in ("best", "last")) for part in PARTS),
    )


def _learnt(trained: Sequence[Entry], part: str, at: str) -> str:
    learnt = [_training(entry).get("memorisation", {}).get(part, {}).get(at) for entry in trained]
    return _mean(learnt)


def _training(entry: Entry) -> dict[str, Any]:
    return dict(entry.record.provenance.get("training") or {})


def _clean(record: Record) -> float | None:
    return next((found.value for found in record.summary if found.metric == "accuracy"), None)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return MISSING
    spread = f" ± {100 * statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{100 * statistics.fmean(known):.1f}{spread}"
