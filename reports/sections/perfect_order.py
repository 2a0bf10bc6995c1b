"""Every order of a few batches: what each epoch's networks answer, and how their losses and accuracies are spread."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from reports import charts
from reports.bodies import Grid
from reports.charts.histograms import histograms
from reports.section import Section, Source
from reports.sections.analyses import Look, looks
from reports.tables import counted
from robust_eval.results.entry import Entry

__all__ = ["sections"]

ANALYSIS = "perfect_order"
LOSSES, ACCURACIES = (1, 2, 5, 6), (12, 13)
"""Epochs whose networks the thesis draws."""
HEADS = ("epoch", "networks", "accuracy, min", "mean", "max", "loss, min", "mean", "max")
LEAK = " As in the thesis, the test images decide what is trained on: a leak, and no estimate for new images."
_STEPS = 40
"""Bars of a histogram, at most."""


def sections(source: Source) -> Iterator[Section]:
    """Yield for each network and setting the numbers of its epochs, and two histograms."""
    found = [
        (look, look.names()[words], entry)
        for look in looks(source.loaded.analyses)
        if _name(look) == ANALYSIS
        for words, entry in look.lines().items()
    ]
    for i, (look, called, entry) in enumerate(found):
        told = f": {called}" if len(look.entries) > 1 else ""
        title = f"{look.title}, epoch by epoch{told}"
        rows, note = entry.record.rows, _note(entry)
        yield Section(title, Grid(HEADS, tuple(_numbers(rows)), 1), note)
        suffix = f"_{i + 1}" if len(found) > 1 else ""
        for column, epochs in (("loss", LOSSES), ("accuracy", ACCURACIES)):
            shown = _shown(rows, epochs)
            name, caption = f"{ANALYSIS}_{column}{suffix}", _caption(entry, column, shown)
            bars = pd.concat([_histogram(rows, column, epoch) for epoch in shown], ignore_index=True)
            draw = partial(histograms, x="accuracy, %" if column == "accuracy" else column)
            if (chart := charts.figure(name, caption, draw, bars, wide=len(shown) > 1)) is not None:
                yield Section("", chart)


def _name(look: Look) -> str:
    """Return the name of the analysis itself, without parameters."""
    return str(look.entries[0].labels["perturbation"])


def _numbers(rows: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    for epoch, same in rows.groupby("epoch", sort=True):
        accuracy, loss = 100 * same["accuracy"], same["loss"]
        yield (
            str(epoch),
            f"{len(same):,}",
            *(f"{value:.1f}" for value in (accuracy.min(), accuracy.mean(), accuracy.max())),
            *(f"{value:.3f}" for value in (loss.min(), loss.mean(), loss.max())),
        )


def _note(entry: Entry) -> str:
    rows, params = entry.record.rows, entry.params
    first = rows[rows["epoch"] == rows["epoch"].min()]
    batches = len(str(first["order"].iloc[0]))
    classes = ", ".join(str(label) for label in params["classes"])
    return (
        f"Copies of one network after {batches} steps of SGD at {params['lr']:g}, one on each of {batches} batches of "
        f"{params['batch_size']}, in all {math.factorial(batches):,} orders; the batches of an epoch are the same "
        f"images, split anew: {len(rows):,} networks in all. Accuracy in % and mean cross-entropy on the "
        f"{_images(entry)} of classes {classes}, of which one is {100 / int(rows['n'].iloc[0]):.1f} points. From the "
        f"second epoch on, {counted(params['clusters'], 'network')} of the epoch before are trained further: of each "
        f"cluster of their losses on {_reference(entry)}, the one nearest to its centre.{LEAK * _leaks(entry)}"
    )


def _images(entry: Entry) -> str:
    return f"{counted(int(entry.record.rows['n'].iloc[0]), 'test image')}"


def _reference(entry: Entry) -> str:
    rows = entry.record.rows
    if _leaks(entry):
        return "these same test images"
    return f"{counted(int(rows['n_selection'].iloc[0]), 'training image')} that are in no batch"


def _leaks(entry: Entry) -> bool:
    return bool(entry.params["reference"] == "test")


def _caption(entry: Entry, column: str, epochs: Sequence[int]) -> str:
    after = " and ".join(
        [", ".join(map(str, epochs[:-1])), str(epochs[-1])] if epochs[1:] else [str(epochs[0])]
    )
    leak = "; networks to go on with were chosen by these images (a leak)" if _leaks(entry) else ""
    what = "Losses" if column == "loss" else "Accuracies"
    epoch = "epochs" if epochs[1:] else "epoch"
    return f"{what} on {_images(entry)} of all networks after {epoch} {after}{leak}"


def _shown(rows: pd.DataFrame, epochs: Sequence[int]) -> list[int]:
    """Return which of the epochs there are, the last two where none is."""
    there = sorted(int(epoch) for epoch in rows["epoch"].unique())
    return [epoch for epoch in epochs if epoch in there] or there[-2:]


def _histogram(rows: pd.DataFrame, column: str, epoch: int) -> pd.DataFrame:
    """Return how many networks of an epoch are in each step of loss or accuracy."""
    same = rows[rows["epoch"] == epoch]
    values, shares = same[column].to_numpy(), column == "accuracy"
    if shares:  # bars in the middle of which one number of right images stands, or several
        n = int(same["n"].iloc[0])
        right = np.rint(values * n)
        wide = max(1, math.ceil((right.max() - right.min() + 1) / _STEPS))
        edges = 100 * (np.arange(right.min(), right.max() + wide + 1, wide) - 0.5) / n
        values = 100 * right / n
    else:
        edges = np.histogram_bin_edges(values, _STEPS)
    counts, _ = np.histogram(values, edges)
    low, high = edges[:-1], edges[1:]
    digits, unit = (1, " %") if shares else (3, "")
    return pd.DataFrame(
        {
            "epoch": f"epoch {epoch}",
            "series": "networks",
            "low": low,
            "high": high,
            "networks": counts,
            "ground": 0,
            "told": [
                f"epoch {epoch}; {column} {a:.{digits}f} to {b:.{digits}f}{unit}: {counted(int(k), 'network')}"
                for a, b, k in zip(low, high, counts, strict=True)
            ],
        }
    )
