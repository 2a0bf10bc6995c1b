"""Comparisons of models, defenses and what the attacker sees: one line each, one column for each perturbation.

The same :class:`Comparison` is written as Markdown, LaTeX, HTML and for terminals, so they cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from robust_eval.findings import MARKS, Verdict
from robust_eval.metrics.corruption_errors import EXTRA_TYPES, TEST_TYPES
from robust_eval.results.failed import LOST
from robust_eval.results.names import UNSET, check_names, metric_text, verdict_in
from robust_eval.threat import column_text

__all__ = [
    "CLEAN",
    "FAILED",
    "MARKS_TOLD",
    "MEAN",
    "MISSING",
    "Column",
    "Comparison",
    "Line",
    "Number",
    "caption",
    "counted",
    "heading",
    "is_share",
    "place_of_type",
    "title_of",
    "unit_of",
]

MISSING = "–"
"""What stands where nothing was measured."""
FAILED = "failed"
"""What stands where measuring stopped with an error."""
MARKS_TOLD = (
    "✓ all checks passed, ? a check warns or could not be made, ! a check fails (rest the pointer on a mark for the "
    f"reason), {MISSING} not measured."
)
"""What the marks beside numbers mean: told at the first table that has them."""


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
            return column_text(self.norm, self.eps)
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
    trainings: int = 1
    """Over how many it is."""
    asked: int = 1
    """Over how many it would be, with the seeds of the other lines."""
    failed: str | None = None
    """Why there is no value where measuring it failed: the error, which may be unknown and empty."""
    estimated_for: int | None = None
    """How many images it is estimated for, from the ``n`` that were attacked; ``None`` where it is no estimate."""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its checks."""
        return verdict_in(self.checks)

    @property
    def mark(self) -> str:
        """``!`` where a check failed, ``?`` where one warns or could not be made."""
        return MARKS[self.verdict]

    @property
    def incomplete(self) -> bool:
        """Whether it failed, or is a worst case from which an attack that failed is missing."""
        return self.failed is not None or LOST in check_names(self.checks)

    @property
    def short(self) -> str:
        """The value alone: accuracies in percent, others as they are."""
        if self.failed is not None:
            return FAILED
        if self.value is None:
            if self.metric == "certified_accuracy":  # beyond what the defense can certify of any model
                return MISSING
            return "not found" if self.metric.startswith("median") else "undefined"
        part = f" ({self.of[0]} of {self.of[1]})" if self.of and self.of[0] != self.of[1] else ""
        spread = "" if self.spread is None else f" ± {self._text(self.spread)}"
        few = f" ({self.trainings} of {self.asked} trainings)" if self.trainings < self.asked else ""
        few += "" if self.estimated_for is None else f" (est. {self.n} of {self.estimated_for})"
        return self._text(self.value) + spread + part + few

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
    def empty(self) -> bool:
        """Whether there is no number in it."""
        return not (self.columns and self.lines)

    @property
    def corrupted(self) -> bool:
        """Whether it has corruptions, and not their mean alone."""
        return any(column.family == "corruption" and column != MEAN for column in self.columns)

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
        if (number := self.cells.get((line, column))) is None:
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


def counted(count: int, one: str, several: str = "") -> str:
    """Return ``1 type`` or ``3 types``."""
    return f"{count} {one if count == 1 else several or one + 's'}"


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


def unit_of(metric: str) -> str:
    """Return what a table's numbers are in, as a sentence below its heading."""
    return "Percent, with 95 % intervals." if is_share(metric) else "With 95 % intervals."


def place_of_type(name: str) -> tuple[int, str]:
    """Return where a corruption stands in a table: the test types in the order of their paper, the extra, others."""
    order = (*TEST_TYPES, *EXTRA_TYPES)
    bare = name.partition(" ")[0]
    return (order.index(bare) if bare in order else len(order), name)


def caption(numbers: Sequence[Number], *, intervals: bool) -> str:
    """Return what a table of accuracies is of: n, and how wide intervals are, unless they stand beside the numbers."""
    sizes = sorted({number.estimated_for or number.n for number in numbers if number.n is not None})
    widths = [
        max(number.high - number.value, number.value - number.low)
        for number in numbers
        if number.value is not None and number.low is not None and number.high is not None
    ]
    parts = ["accuracy in %"]
    if seeds := sorted({number.trainings for number in numbers if number.spread is not None}):
        many = f"{seeds[0]}" + (f" to {seeds[-1]}" if len(seeds) > 1 else "")
        parts.append(f"mean ± standard deviation over {many} trainings")
    if sizes:
        parts.append(f"n = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else ""))
    if widths:
        width = "" if intervals else f" of up to ±{100 * max(widths):.1f} points"
        # training again would move a number, too: no interval here knows of that
        parts.append(f"95 % intervals{width} over the images")
    guessed = any(number.estimated_for for number in numbers)
    return ", ".join([*parts, *(["est.: estimated from so many attacked of all images"] if guessed else [])])
