"""How each class fares: averages over classes for clean images, and every class of every record.

The definitions are in :mod:`robust_eval.metrics.classification`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from reports.bodies import Grid
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.metrics import classification
from robust_eval.metrics.classification import CLASSES_KEPT, PER_CLASS
from robust_eval.results.entry import Entry

__all__ = ["class_table", "sections"]

_SPOKEN = {
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "false_positive_rate": "FPR",
    "false_discovery_rate": "FDR",
    "f1": "F1",
    "mcc": "MCC",
    "auc": "AUC",
}
_MICRO = {
    "micro_specificity": "micro specificity",
    "micro_false_positive_rate": "micro FPR",
    "micro_mcc": "micro MCC",
    "micro_auc": "micro AUC",
}
GROUP = "Class by class"
NOTE = (
    "On clean images, each class against the rest, macro averages: means over classes. Recall is also called "
    "sensitivity or true positive rate (TPR), specificity true negative rate (TNR); FPR: false positive rate, FDR: "
    "false discovery rate. MCC from -1 to 1, of classes as the mean over them, of all classes that of the whole "
    "confusion matrix; the others from 0 to 1. AUC is the area under the ROC curve of the class probabilities. Micro "
    "counts the decisions of all classes together; micro precision, recall and F1 are the accuracy. –: of more than "
    f"{CLASSES_KEPT} classes probabilities are not kept."
)
_NAMED = (
    "model", "defense", "access", "data", "perturbation", "norm", "eps", "severity", "seed", "train_seed",
)  # fmt: skip
_COLUMNS = (
    "key", *_NAMED, "class", "images", *classification.COUNTS, *PER_CLASS, "auc", "undefined"
)  # fmt: skip


def sections(source: Source) -> Iterator[Section]:
    """Yield the averages of each model on clean images, and as details, its classes and its confusion matrix."""
    clean = [entry for entry in source.entries if entry.labels["family"] == "clean" and _readable(entry)]
    if not clean:
        return
    varied = {name for name in ("data", "seed", "train_seed") if len({e.labels[name] for e in clean}) > 1}
    heads = ("model", "defense", *(name for name in ("data", "seed", "train_seed") if name in varied))
    names = (
        *(name.replace("_", " ") for name in heads),
        *_SPOKEN.values(),
        *("MCC of all classes", *_MICRO.values()),
    )
    rows = [(*_words(entry, heads), *_averages(entry.record.rows)) for entry in clean]
    yield Section("Classification", Grid(names, tuple(rows), len(heads)), NOTE)
    for entry in clean:
        yield from _details(entry, _who(entry, heads))


def class_table(entries: Sequence[Entry]) -> pd.DataFrame | None:
    """Return a line for each class of each record, then its averages; ``None`` if no record has predictions."""
    columns: dict[str, list[object]] = {name: [] for name in _COLUMNS}
    for entry in entries:
        if not _readable(entry):
            continue
        rows = entry.record.rows
        table = classification.by_class(rows, _classes(rows))
        about = {"key": entry.record.key, **{name: entry.labels[name] for name in _NAMED}}
        for name, column in columns.items():
            if name in about:
                column += [about[name]] * len(table)
            elif name == "class":
                column += [*table.index]
            else:
                column += [*table[name]] if name in table else [None] * len(table)
    return pd.DataFrame(columns, dtype=object) if columns["key"] else None


def _averages(rows: pd.DataFrame) -> Iterator[str]:
    values = {m.metric: m.value for m in classification.classification(rows, _classes(rows))}
    for name in (*(f"macro_{name}" for name in _SPOKEN), "mcc", *_MICRO):
        # how many true negatives there are depends on how many classes the model has
        unknown = name in _MICRO and "p0" not in rows.columns
        value = None if unknown else values.get(name)
        yield MISSING if value is None else f"{value:.3f}"


def _details(entry: Entry, who: str) -> Iterator[Section]:
    rows = entry.record.rows
    classes = _classes(rows)
    if classes > CLASSES_KEPT:
        return
    table = classification.by_class(rows, classes)
    measures = [name for name in _SPOKEN if name in table]
    lines = [
        (str(name), f"{line['images']}", *(_value(line, measure) for measure in measures))
        for name, line in table.iterrows()
    ]
    note = (
        "Each class against the rest, on clean images. –: undefined, its denominator is zero. classes.csv has all "
        "records, with 0 there and the names of what is undefined."
    )
    heads = ("class", "images", *(_SPOKEN[name] for name in measures))
    yield Section(f"Classes of {who}", Grid(heads, tuple(lines), 1), note, folded=True, group=GROUP)
    counts = classification.confusion(rows, classes)
    predicted = [{"-1": "none"}.get(str(name), str(name)) for name in counts.columns]
    lines = [(str(name), *map(str, line)) for name, line in zip(counts.index, counts.to_numpy(), strict=True)]
    note = "Clean images of each class (line) that were taken for each class (column)."
    yield Section(
        f"Confusion matrix of {who}",
        Grid(("class", *predicted), tuple(lines), 1),
        note,
        folded=True,
        group=GROUP,
    )


def _value(line: pd.Series[Any], measure: str) -> str:
    return MISSING if measure in str(line["undefined"]).split() else f"{line[measure]:.3f}"


def _classes(rows: pd.DataFrame) -> int:
    """Return how many classes there are: as many as probabilities, else up to the largest that was seen."""
    kept = sum(f"p{k}" in rows.columns for k in range(CLASSES_KEPT))
    return kept or 1 + int(max(rows["label"].max(), rows["prediction"].max()))


def _readable(entry: Entry) -> bool:
    return {"label", "prediction"} <= set(entry.record.rows.columns) and bool(len(entry.record.rows))


def _who(entry: Entry, heads: Sequence[str]) -> str:
    """Return model and defense, and the seeds or data that tell this record from others."""
    model, defense, *rest = _words(entry, heads)
    name = model if defense == "none" else f"{model} + {defense}"
    return name + (f" ({', '.join(rest)})" if rest else "")


def _words(entry: Entry, heads: Sequence[str]) -> Iterator[str]:
    for name in heads:
        value = entry.labels[name]
        yield MISSING if value is None else str(value)
