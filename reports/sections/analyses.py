"""Looks at models beyond accuracy: a table of each analysis' numbers, and a drawing of what it found.

Both are made of the records alone: the numbers are their summaries, and a record says which columns of its rows are
drawn (``plot``). Where ``y`` is a column, its mean at each ``x`` is drawn; where it is none, it is what the axis is
called, and the share of rows in each step of ``x`` is drawn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports import charts
from reports.bodies import Chart, Grid
from reports.charts.analysis import analysis
from reports.section import Section, Source
from reports.tables import MISSING, Number
from robust_eval.results.entry import Entry
from robust_eval.results.names import differing, metric_text, with_params

__all__ = ["Look", "drawing", "looks", "sections", "spoken", "tables", "text_of"]

_WIDTH = 6
"""Columns of numbers that stay readable side by side."""
_STEPS = 40
"""Of a quantity whose shares are drawn; fewer where there are few rows."""
_OTHER = "other images"
_HEADS = ("model", "data", _OTHER, "seeds")
_POINTS = 200
"""Points of a line beyond which some are left out of a drawing."""


class Look(NamedTuple):
    """An analysis with one setting, of all models."""

    name: str
    """With the parameters that tell it from another setting."""
    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        """The name as a heading."""
        text = self.name.replace("_", " ")
        return text[0].upper() + text[1:]

    @property
    def figure(self) -> str:
        """The name of its drawing, as that of a file."""
        return "analysis_" + "".join(c if c.isalnum() else "_" for c in self.name).strip("_")

    @property
    def plot(self) -> dict[str, Any] | None:
        """How it is drawn."""
        plot = self.entries[0].record.labels.get("plot")
        return dict(plot) if plot else None

    def lines(self) -> dict[tuple[str, ...], Entry]:
        """Return the record of each line of its table by the words of :meth:`heads`."""
        found: dict[tuple[str, ...], Entry] = {}
        for entry in self.entries:
            model, *others = (_words(entry)[i] or MISSING for i in self._told())
            same = (model, *others) in found
            found[(f"{model} [{entry.record.key[:6]}]" if same else model, *others)] = entry
        return found

    def metrics(self) -> list[str]:
        """Return the names of its numbers, in the order of the records."""
        return list(dict.fromkeys(m.metric for entry in self.entries for m in entry.record.summary))

    def heads(self) -> tuple[str, ...]:
        """Return what the words of a line are: the model, and whatever differs between lines."""
        return tuple(_HEADS[i] for i in self._told())

    def names(self) -> dict[tuple[str, ...], str]:
        """Return what a drawing calls each line: its words, but for those that all lines have."""
        lines = list(self.lines())
        varied = [i for i, words in enumerate(zip(*lines, strict=True)) if len(set(words)) > 1] or [0]
        return {words: ", ".join(words[i] for i in varied) for words in lines}

    def _told(self) -> list[int]:
        fields = list(map(_words, self.entries))
        compares = any(words[_HEADS.index(_OTHER)] for words in fields)
        told = [
            i
            for i, head in enumerate(_HEADS)
            if i == 0 or (head == _OTHER and compares) or (head == "data" and len({w[i] for w in fields}) > 1)
        ]
        # seeds only where nothing else tells two lines apart
        alone = len({tuple(words[i] for i in told) for words in fields}) == len(fields)
        return told if alone else [*told, _HEADS.index("seeds")]


def looks(entries: Sequence[Entry]) -> list[Look]:
    """Return the analyses by name; several settings of one are told apart by their parameters."""
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_name[str(entry.labels["perturbation"])].append(entry)
    found: dict[str, list[Entry]] = defaultdict(list)
    for name, same in sorted(by_name.items()):
        shown = differing([entry.params for entry in same])
        for entry in sorted(same, key=lambda e: (str(e.labels["model"]), e.record.labels.get("other") or "")):
            found[with_params(name, entry.params, shown)].append(entry)
    return [Look(name, tuple(same)) for name, same in found.items()]


def sections(source: Source) -> Iterator[Section]:
    """Yield each analysis: its numbers, in several tables where there are many, and below the last its drawing."""
    for look in looks(source.loaded.analyses):
        yield from tables(look)
        if (chart := drawing(look)) is not None:
            yield Section("", chart)


def tables(look: Look) -> Iterator[Section]:
    """Yield the numbers of an analysis with their intervals."""
    pieces = _chunks(look.metrics())
    for i, metrics in enumerate(pieces):
        rows = [
            (*words, *(text_of(entry, metric) for metric in metrics)) for words, entry in look.lines().items()
        ]
        yield Section(
            f"{look.title} ({i + 1} of {len(pieces)})" if len(pieces) > 1 else look.title,
            Grid((*look.heads(), *map(spoken, metrics)), tuple(rows), len(look.heads())),
            _note(look),
        )


def drawing(look: Look) -> Chart | None:
    """Return the drawing of an analysis, if it has one."""
    plot = look.plot
    points = pd.DataFrame() if plot is None else _points(look, plot)
    if plot is None or points.empty:
        return None
    draw = partial(
        analysis,
        x="λ" if plot["x"] == "lam" else str(plot["x"]).replace("_", " "),
        y=str(plot["y"]).replace("_", " "),
        bars=plot["mark"] == "bar",
        shares=plot["y"] not in look.entries[0].record.rows,
    )
    # side by side panels need the room of two columns
    wide = points["split"].nunique() > 1
    return charts.figure(look.figure, str(plot["title"]), draw, _with_words(points), wide=wide)


def spoken(metric: str) -> str:
    """Return the name of a metric of an analysis in words."""
    known = {"tnr": "TNR", "tpr": "TPR", "auroc": "AUROC", "aupr": "AUPR"}
    return " ".join(known.get(word, word) for word in metric_text(metric).split())


def _words(entry: Entry) -> tuple[str, ...]:
    labels = entry.labels
    seeds = [str(labels[name]) for name in ("seed", "train_seed") if labels.get(name) is not None]
    other = str(entry.record.labels.get("other") or "")
    return str(labels["model"]), str(labels["data"]), other, " / ".join(seeds)


def _chunks(metrics: list[str]) -> list[list[str]]:
    pieces = max(1, math.ceil(len(metrics) / _WIDTH))
    size = max(1, math.ceil(len(metrics) / pieces))
    return [metrics[i : i + size] for i in range(0, len(metrics), size)] or [[]]


def text_of(entry: Entry, metric: str) -> str:
    """Return a number of a record with its interval."""
    number = next((m for m in entry.record.summary if m.metric == metric), None)
    if number is None:
        return MISSING
    shown = Number(number.metric, number.value, number.ci_low, number.ci_high, number.n, "ok", "none")
    # what rounding leaves of a zero
    if number.value and abs(number.value) < 1e-12:
        return "0"
    return shown.full.replace("–-", " to -")  # a dash before a minus


def _note(look: Look) -> str:
    data = sorted({str(entry.labels["data"]) for entry in look.entries})
    shares = any(metric.startswith("accuracy") for metric in look.metrics())
    percent = " Accuracies in percent." if shares else ""
    return f"On {', '.join(data)}; 95 % intervals in brackets, where there is one.{percent}"


def _points(look: Look, plot: Mapping[str, Any]) -> pd.DataFrame:
    """Return what is drawn: line, x, y, split, and the words for the pointer."""
    tables = []
    names = look.names()
    for words, entry in look.lines().items():
        rows = entry.record.rows
        if not {plot["x"], plot["split"] or plot["x"]} <= set(rows.columns):
            continue
        split = rows[plot["split"]].astype(str) if plot["split"] else pd.Series("", rows.index)
        known = pd.DataFrame({"line": names[words], "split": split, "x": rows[plot["x"]]})
        known["y"] = rows.get(plot["y"], np.nan)
        tables.append(known)
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if whole.empty or plot["y"] not in look.entries[0].record.rows:
        return _shares(whole)
    means: pd.DataFrame = whole.groupby(["line", "split", "x"], sort=False)["y"].mean().reset_index()
    return pd.concat([_thinned(line) for _, line in means.groupby(["line", "split"], sort=False)])


def _shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the rows of each line and split in equal steps of x, those that are finite."""
    rows = rows[np.isfinite(rows["x"])] if len(rows) else rows
    if rows.empty:
        return rows
    few = math.isqrt(int(rows.groupby(["line", "split"], sort=False).size().min()))
    edges = np.histogram_bin_edges(rows["x"], min(max(few, 8), _STEPS))
    tables = []
    for (line, split), part in rows.groupby(["line", "split"], sort=False):
        counts, _ = np.histogram(part["x"], edges)
        middle = (edges[:-1] + edges[1:]) / 2
        tables.append(pd.DataFrame({"line": line, "split": split, "x": middle, "y": counts / len(part)}))
    return pd.concat(tables, ignore_index=True)


def _thinned(line: pd.DataFrame) -> pd.DataFrame:
    if len(line) <= _POINTS:
        return line
    return line.iloc[np.unique(np.linspace(0, len(line) - 1, _POINTS).round().astype(int))]


def _with_words(points: pd.DataFrame) -> pd.DataFrame:
    """Add what each point tells the pointer."""
    told = [
        f"{line}; {f'{split}; ' if split else ''}{x if isinstance(x, str) else f'{x:.4g}'}: {y:.4g}"
        for line, split, x, y in zip(points["line"], points["split"], points["x"], points["y"], strict=True)
    ]
    return points.assign(told=told)
