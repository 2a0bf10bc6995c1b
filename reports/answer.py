"""What a report says first: one line for each model and defense, the few columns that decide, and sentences to quote.

Columns by rule: clean accuracy; for each norm the worst case over its attacks at one radius; the mean over corruptions.
The radius is the one at which most lines were attacked; of several, that of the common benchmarks
(``robust_eval.threat.DEFAULT_RADIUS``), or the largest that leaves somebody a tenth of the images. A defended model has
one line: against the strongest attacker it met, who sees the defense wherever one was run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from reports.scores import Scored
from reports.standing import Standing, standings
from reports.tables import CLEAN, MEAN, Column, Comparison, Line, Number
from robust_eval.threat import DEFAULT_RADIUS

__all__ = ["Decided", "Reliance", "decided", "radius_of", "seen_by"]

Reliance = Literal["relied", "unexamined", "not_made", "warn", "fail"]
"""What the checks say of a line: a verdict, where ``ok`` is told apart by whether the model was examined."""

_LEFT = 0.1
"""A radius at which even the best keeps less tells nothing apart."""
_ACCESS = ("any", "adaptive", "none", "transfer")
"""Whose line stands for a defended model: the strongest first."""


class Decided(NamedTuple):
    """The numbers of the first table, with their standing."""

    table: Comparison
    standing: Mapping[tuple[Line, Column], Standing]
    main: Column | None
    """The column that the sentences are about."""


def decided(table: Comparison, scored: Scored) -> Decided:
    """Return the first table of a comparison of accuracies: models by their main number, defenses below their model."""
    lines = tuple(_strongest(table))
    attacked = [c for c in table.columns if c.family == "attack" and c.eps is not None]
    norms = dict.fromkeys(column.norm for column in attacked)
    cells = dict(table.cells)
    columns = [CLEAN] if CLEAN in table.columns else []
    for norm in norms:
        eps = radius_of(norm, attacked, lines, table)
        worst = Column("attack", "worst_case", norm, eps)
        for line in lines:
            # of a single attack, its own number is the worst case
            if (number := table.cells.get((line, worst)) or _only(line, norm, eps, table)) is not None:
                cells[line, worst] = number
        columns.append(worst)
    columns += [MEAN] if MEAN in table.columns else []
    main = next((c for c in columns if c.family == "attack"), columns[-1] if columns else None)
    chosen = Comparison(table.metric, lines, tuple(columns), cells).only(tuple(columns))
    ranked = Comparison(table.metric, tuple(_ranked(chosen, main)), chosen.columns, cells)
    return Decided(ranked, standings(ranked, scored), main)


def radius_of(norm: str, attacked: list[Column], lines: tuple[Line, ...], table: Comparison) -> float:
    """Return the radius that a norm is told at."""
    values: dict[float, dict[Line, float]] = {}
    for column in attacked:
        if column.norm == norm and column.eps is not None:
            at = values.setdefault(column.eps, {})
            for line in lines:
                number = table.cells.get((line, column))
                if number is not None and number.value is not None:
                    at[line] = min(number.value, at.get(line, 1.0))
    most = max(map(len, values.values()))
    usual = [eps for eps, at in sorted(values.items()) if len(at) == most]
    if (common := DEFAULT_RADIUS.get(norm)) in usual:
        return common
    telling = [eps for eps in usual if max(values[eps].values(), default=0.0) >= _LEFT]
    return telling[-1] if telling else usual[0]


def seen_by(line: Line) -> str:
    """Return against whom a defended line's number is, in words; empty for a model itself."""
    if line.defense == "none":
        return ""
    return {"any": "transfer and adaptive", "adaptive": "adaptive", "transfer": "transfer only"}.get(
        line.access, "not attacked"
    )


def _strongest(table: Comparison) -> Iterator[Line]:
    """Yield one line for each model, defense and data: that of the attacker who knows most."""
    of: dict[Line, list[Line]] = {}
    for line in table.lines:
        of.setdefault(line._replace(access=""), []).append(line)
    for lines in of.values():
        yield min(lines, key=lambda line: _ACCESS.index(line.access) if line.access in _ACCESS else 9)


def _only(line: Line, norm: str, eps: float, table: Comparison) -> Number | None:
    """Return the number of the one attack in a norm at a radius; of an access without a worst case, the least."""
    found = [
        number
        for column in table.columns
        if column.family == "attack" and column.norm == norm and column.eps == eps
        for access in ((line.access,) if line.access != "any" else ("transfer", "adaptive"))
        if (number := table.cells.get((line._replace(access=access), column))) is not None
        and (number.value is not None or number.failed is not None)
    ]
    # of what failed nothing is known, not even whether it is the least
    return min(found, key=lambda number: -1.0 if number.value is None else number.value, default=None)


def _ranked(table: Comparison, main: Column | None) -> Iterator[Line]:
    """Yield models from the highest main number to the lowest, each followed by its defenses in the same order."""

    def number(line: Line) -> float:
        found = None if main is None else table.cells.get((line, main))
        return -1.0 if found is None or found.value is None else found.value

    def subject(line: Line) -> Line:
        return line._replace(defense="none", access="none")

    own = {subject(line): number(line) for line in table.lines if line.defense == "none"}
    for line in table.lines:
        own.setdefault(subject(line), number(line))
    places = {place: i for i, place in enumerate(own)}

    def order(line: Line) -> tuple[str, float, int, bool, float]:
        place = subject(line)
        return line.data, -own[place], places[place], line.defense != "none", -number(line)

    yield from sorted(table.lines, key=order)
