"""Compares models, defenses and what the attacker sees: one line each, one column for each perturbation.

The same :class:`Comparison` is written as Markdown, LaTeX, HTML and for terminals, so they cannot disagree.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from robust_eval.findings import MARKS, Verdict
from robust_eval.metrics.corruption_errors import TEST_TYPES
from robust_eval.results.names import UNSET, metric_text, verdict_in
from robust_eval.threat import length_text, threat_text

if TYPE_CHECKING:
    pass

__all__ = [
    "CLEAN",
    "MEAN",
    "MISSING",
    "Column",
    "Comparison",
    "Line",
    "Number",
    "comparison",
    "counted",
    "heading",
    "is_share",
    "mean_of",
    "metrics",
    "threats",
    "title_of",
]

MISSING = "–"
"""What stands where nothing was measured."""

_NORMS = ("linf", "l2", "l1")


class Line(NamedTuple):
    """What a line of a comparison is about."""

    model: str
    defense: str
    access: str
    data: str
    seed: int | None
    train_seed: int | None


class Column(NamedTuple):
    """What a column of a comparison is about."""

    family: str
    perturbation: str
    norm: str = "none"
    eps: float | None = None
    severity: int | None = None

    @property
    def name(self) -> str:
        """The perturbation as it is spoken of."""
        if self.family == "clean":
            return "clean" if self.eps is None else "certified"
        return {"worst_case": "worst case", MEAN.perturbation: "mean"}.get(
            self.perturbation, self.perturbation
        )

    @property
    def strength(self) -> str:
        """Norm and radius, or severity."""
        if self.family == "attack" or self.eps is not None:
            return threat_text(self.norm, self.eps)
        return f"s{self.severity}" if self.severity is not None else ""

    @property
    def text(self) -> str:
        """Name and strength on one line, such as ``pgd linf 8/255``."""
        if self == MEAN:
            return "mean of corruptions"
        return f"{self.name} {self.strength}".strip()


CLEAN = Column("clean", "none")
MEAN = Column("corruption", "mean of corruptions")


class Number(NamedTuple):
    """One measured number, as a table shows it."""

    metric: str
    value: float | None
    """``None`` where it was measured and does not exist."""
    low: float | None
    high: float | None
    n: int | None
    checks: str
    key: str
    of: tuple[int, int] | None = None
    """For a mean: over how many of the table's columns it is."""
    spread: float | None = None
    """For a mean over trainings: their standard deviation."""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its checks."""
        return verdict_in(self.checks)

    @property
    def mark(self) -> str:
        """``!`` where a check failed, ``?`` where one warns or could not be made."""
        return MARKS[self.verdict]

    @property
    def short(self) -> str:
        """The value alone: accuracies in percent, others as they are."""
        if self.value is None:
            if self.metric == "certified_accuracy":  # beyond what the defense can certify of any model
                return MISSING
            return "not found" if self.metric.startswith("median") else "undefined"
        part = f" ({self.of[0]} of {self.of[1]})" if self.of and self.of[0] != self.of[1] else ""
        spread = "" if self.spread is None else f" ± {self._text(self.spread)}"
        return self._text(self.value) + spread + part

    @property
    def interval(self) -> str:
        """``55.6–68.9``, or an empty string if there is none."""
        if self.value is None or (self.low is None and self.high is None):
            return ""
        return "–".join("∞" if bound is None else self._text(bound) for bound in (self.low, self.high))

    @property
    def full(self) -> str:
        """Value, mark and interval: ``62.5? (55.6–68.9)``."""
        return f"{self.short}{self.mark}" + (f" ({self.interval})" if self.interval else "")

    def _text(self, value: float) -> str:
        return f"{100 * value:.1f}" if is_share(self.metric) else f"{value:.3g}"


@dataclass(frozen=True)
class Comparison:
    """A table of numbers; a cell that is missing was not measured."""

    metric: str
    lines: tuple[Line, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[Line, Column], Number]

    @property
    def heads(self) -> tuple[str, ...]:
        """The fields that tell the lines apart: model and defense always, the others where they differ."""
        always = {"model", "defense"}
        varied = {name for name in Line._fields if len({getattr(line, name) for line in self.lines}) > 1}
        return tuple(name for name in Line._fields if name in always | varied)

    def part(self, *families: str, without: Iterable[Column] = ()) -> Comparison:
        """Return the columns of these families, and the lines that have a number in them."""
        columns = tuple(c for c in self.columns if c.family in families and c not in tuple(without))
        return self.only(columns)

    def only(self, columns: tuple[Column, ...]) -> Comparison:
        """Return some of the columns, and the lines that have a number in them."""
        lines = tuple(line for line in self.lines if any((line, column) in self.cells for column in columns))
        return replace(self, columns=columns, lines=lines)

    def without_access(self) -> Comparison:
        """Return one line for each model and defense: for numbers that do not depend on the attacker."""
        lines: dict[Line, Line] = {}
        for line in self.lines:
            lines.setdefault(line._replace(access="none"), line)
        cells = {
            (bare, column): self.cells[line, column]
            for bare, line in lines.items()
            for column in self.columns
            if (line, column) in self.cells
        }
        return replace(self, lines=tuple(lines), cells=cells)

    def chunks(self, width: int, *, repeat: tuple[Column, ...] = ()) -> list[Comparison]:
        """Return tables of at most ``width`` columns besides those to repeat, split between norms first."""
        free = [column for column in self.columns if column not in repeat]
        whole = len(free) <= width
        groups = (
            [free] if whole else [list(group) for _, group in groupby(free, key=lambda column: column.norm)]
        )
        pieces = [group[i : i + width] for group in groups for i in range(0, len(group), width)]
        return [
            self.only(tuple(column for column in self.columns if column in repeat or column in piece))
            for piece in pieces or [free]
        ]

    def in_mean(self) -> tuple[Column, ...]:
        """Return the corruptions that a mean is over: the test types, or all types where there are no test types.

        A mean over corruptions is one over severities: deformations, which have none, stand beside it. A type counts
        once at a severity: where it was both made and read from files, the files count, and of several folders the
        first by name.
        """
        severe = [c for c in self.columns if c.family == "corruption" and c.severity is not None]
        tested = [c for c in severe if c.perturbation.partition(" ")[0] in TEST_TYPES]
        return _once(tested or severe)

    @property
    def counted_once(self) -> bool:
        """Whether the mean leaves out corruptions that were measured on other images too."""
        severe = [c for c in self.columns if c.family == "corruption" and c.severity is not None]
        return len(_once(severe)) < len(severe)

    def head_texts(self, line: Line) -> list[str]:
        """Return the words that tell a line apart, in the order of :attr:`heads`."""
        return [MISSING if getattr(line, name) is None else str(getattr(line, name)) for name in self.heads]

    def text(self, line: Line, column: Column, *, intervals: bool = True) -> str:
        """Return a cell as text: ``62.5 (55.6–68.9)``, or ``62.5`` without intervals."""
        number = self.cells.get((line, column))
        if number is None:
            return MISSING
        return number.full if intervals else number.short + number.mark

    def to_frame(self, *, intervals: bool = True) -> pd.DataFrame:
        """Return the table as text."""
        table = [
            [
                *self.head_texts(line),
                *(self.text(line, column, intervals=intervals) for column in self.columns),
            ]
            for line in self.lines
        ]
        return pd.DataFrame(
            table, columns=[*self.heads, *(column.text for column in self.columns)], dtype="str"
        )


_FILES = re.compile(r"[( ]files=(.*?)(?:, \w+=.*)?\)(?: \[\w+\])?$")


def _folder(column: Column) -> str | None:
    """Return the folder that a corruption was read from; ``None`` where it was made or needs no telling."""
    found = _FILES.search(column.perturbation)
    return None if found is None or found[1] == UNSET else found[1]


def _once(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns with one set of images for each type and severity."""
    best: dict[tuple[str, int | None], str] = {}
    for column in columns:
        if (folder := _folder(column)) is not None:
            place = column.perturbation.partition(" ")[0], column.severity
            best[place] = min(folder, best.get(place, folder))
    return tuple(
        column
        for column in columns
        if (place := (column.perturbation.partition(" ")[0], column.severity)) not in best
        or _folder(column) == best[place]
    )


def comparison(results: pd.DataFrame, *, metric: str = "accuracy") -> Comparison:
    """Return one line for each model, defense and access, from the long table of :func:`robust_eval.results.load`.

    Clean and corrupted images know no attacker: their numbers stand in every access line of their model. The
    access ``any`` is the worst over transfer and adaptive attacks together.
    """
    # the same radius may come from two computations that differ in the last bit
    radii = {f"{eps:.6g}": eps for eps in sorted(set(results["eps"].dropna()))}
    cells: dict[tuple[Line, Column], Number] = {}
    for row in results[results["metric"] == metric].to_dict("records"):
        cells[_line(row), _column(row, radii)] = _number(row)
    cells = _over_seeds(_spread(cells))
    columns = sorted({column for _, column in cells}, key=_column_order)
    lines = list(dict.fromkeys(line for line, _ in cells))
    if metric.startswith("accuracy"):
        corruptions = Comparison(metric, tuple(lines), tuple(columns), cells).in_mean()
        means = {(line, MEAN): mean_of(line, corruptions, cells) for line in lines}
        cells |= {place: mean for place, mean in means.items() if mean is not None}
        columns += [MEAN] if any(column == MEAN for _, column in cells) else []
    return Comparison(metric, tuple(lines), tuple(columns), cells)


def metrics(results: pd.DataFrame) -> list[str]:
    """Return the names of the metrics that are there, ``accuracy`` first."""
    return sorted(set(results["metric"]), key=lambda name: (name != "accuracy", name))


def _line(row: dict[Any, Any]) -> Line:
    words = (row["model"], row["defense"], row["access"], row["data"])
    return Line(*words, _whole(row["seed"]), _whole(row["train_seed"]))


def _column(row: dict[Any, Any], radii: Mapping[str, float]) -> Column:
    eps = _real(row["eps"])
    eps = None if eps is None else radii[f"{eps:.6g}"]
    return Column(row["family"], row["perturbation"], row["norm"], eps, _whole(row["severity"]))


def _number(row: dict[Any, Any]) -> Number:
    value, low, high = (_real(row[name]) for name in ("value", "ci_low", "ci_high"))
    return Number(row["metric"], value, low, high, _whole(row["n"]), row["checks"], row["key"])


def _real(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _spread(cells: dict[tuple[Line, Column], Number]) -> dict[tuple[Line, Column], Number]:
    """Give the numbers without an attacker to every line of their model and defense."""
    attacked: dict[Line, list[Line]] = {}
    for line, column in cells:
        if column.family == "attack":
            lines = attacked.setdefault(line._replace(access="none"), [])
            lines += [line] if line not in lines else []
    return {
        (place, column): number
        for (line, column), number in cells.items()
        for place in ([line] if column.family == "attack" else attacked.get(line, [line]))
    }


def _over_seeds(cells: dict[tuple[Line, Column], Number]) -> dict[tuple[Line, Column], Number]:
    """Make one line of the lines that differ in the seed of their training alone."""
    seeds: dict[Line, set[int | None]] = {}
    for line, _ in cells:
        seeds.setdefault(line._replace(train_seed=None), set()).add(line.train_seed)
    found: dict[tuple[Line, Column], list[Number]] = {}
    for (line, column), number in cells.items():
        bare = line._replace(train_seed=None)
        found.setdefault((bare if len(seeds[bare]) > 1 else line, column), []).append(number)
    return {place: _averaged(numbers) for place, numbers in found.items()}


def _averaged(numbers: Sequence[Number]) -> Number:
    """Return mean and sample standard deviation; the numbers of the trainings are in ``results.csv``."""
    if len(numbers) == 1:
        return numbers[0]
    values = [number.value for number in numbers if number.value is not None]
    whole = len(values) == len(numbers)
    raised = {check for number in numbers for check in number.checks.split(";") if check != "ok"}
    return Number(
        metric=numbers[0].metric,
        value=statistics.fmean(values) if whole else None,
        low=None,
        high=None,
        n=numbers[0].n,
        checks=";".join(sorted(raised)) or "ok",
        key="none",
        spread=statistics.stdev(values) if whole else None,
    )


def mean_of(
    line: Line, corruptions: Sequence[Column], cells: Mapping[tuple[Line, Column], Number]
) -> Number | None:
    """Return the mean of a line over these columns, without an interval; ``None`` where there is nothing in them."""
    found = [cells[line, column] for column in corruptions if (line, column) in cells]
    values = [number.value for number in found if number.value is not None]
    if not values:
        return None
    raised = {check for number in found for check in number.checks.split(";") if check != "ok"}
    return Number(
        metric=found[0].metric,
        value=statistics.fmean(values),
        low=None,
        high=None,
        n=found[0].n,
        checks=";".join(sorted(raised)) or "ok",
        key="none",
        of=(len(values), len(corruptions)),
    )


def _column_order(column: Column) -> tuple[Any, ...]:
    family = {"clean": 0, "attack": 1}.get(column.family, 2)
    norm = _NORMS.index(column.norm) if column.norm in _NORMS else len(_NORMS)
    eps = -1.0 if column.eps is None else column.eps
    severity = -1 if column.severity is None else column.severity
    if family == 1:
        return (
            family,
            norm,
            column.norm,
            eps,
            column.perturbation == "worst_case",
            column.perturbation,
            severity,
        )
    return (family, 0, column.perturbation, severity, False, "", eps)


def counted(count: int, one: str, several: str = "") -> str:
    """Return ``1 type`` or ``3 types``."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def threats(results: pd.DataFrame) -> list[str]:
    """Return each norm with the radii it was attacked at, such as ``linf 2/255, 8/255``."""
    attacks = results[results["family"] == "attack"]
    found = []
    for norm in sorted(
        set(attacks["norm"]), key=lambda n: (_NORMS.index(n) if n in _NORMS else len(_NORMS), n)
    ):
        radii = {f"{eps:.6g}": eps for eps in attacks.loc[attacks["norm"] == norm, "eps"].dropna()}
        texts = list(dict.fromkeys(length_text(eps, norm) for eps in sorted(radii.values())))
        found.append(f"{norm} {', '.join(texts)}" if texts else f"{norm} (smallest perturbation)")
    return found


def is_share(metric: str) -> bool:
    """Whether a metric is an accuracy, to be told in percent."""
    return metric.startswith("accuracy") or metric.endswith("_accuracy")


def title_of(metric: str) -> str:
    """Return a table's heading for a metric other than the accuracy."""
    text = metric_text(metric)
    return text[0].upper() + text[1:]


def heading(table: Comparison) -> str:
    """Return the heading of a table for a metric other than the accuracy."""
    corrupted = table.columns and all(column.family == "corruption" for column in table.columns)
    return title_of(table.metric) + (" under corruptions" if corrupted else "")
