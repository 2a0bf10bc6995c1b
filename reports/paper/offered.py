"""The columns that a main table may have, by the names that a user gives them.

``clean``; ``linf``, ``l2``, ``l1``, ``l0``: the worst case at the radius told in the answer; ``corruptions``: the
mean over all; ``noise``, ``blur``, ``weather``, ``digital``: that over the types of a group; ``mce``; ``mean error``;
``distance NORM``: the least median distance over the attacks that look for the smallest perturbation; ``checks``;
``regularizer``, ``arch``, ``epochs``, ``batch size``, ``lr``, ``weight decay``, ``optimizer``, ``trainings``. Any
heading of ``table.md`` is a name too, such as ``pgd linf 8/255``, ``worst case l2 0.5`` or ``fog s3``.

Ours: behind a defense that was attacked in several ways, the number of one attack is the least of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from reports.answer import radius_of
from reports.bodies import RELIANCE, Answer, Grid
from reports.comparison import comparison, mean_of
from reports.scores import Scored
from reports.section import Section, Source
from reports.sections import corruption_errors
from reports.standing import Standing, standings
from reports.tables import CLEAN, MEAN, MISSING, Column, Comparison, Line, Number, counted
from robust_eval.registry import find, names
from robust_eval.threat import threat_text

__all__ = ["FACTS", "GROUPS", "Catalogue", "Offered", "Told"]

GROUPS = ("noise", "blur", "weather", "digital")
FACTS = ("regularizer", "arch", "epochs", "batch size", "lr", "weight decay", "optimizer", "trainings")
_MEANS = {"mce": "mCE", "mean error": "mean error"}


class Told(NamedTuple):
    """What stands in a cell."""

    text: str
    standing: Standing = ""
    mark: str = ""
    interval: str = ""


class Offered(NamedTuple):
    """A column of the main table."""

    name: str
    head: str
    over: str
    """A heading that it may share with its neighbours."""
    cells: Mapping[Line, Told]
    note: str = ""
    """What a caption has to say of it."""


Maker = Callable[[str], Offered]


class Catalogue:
    """All columns that there are for the lines of an answer; each is made when it is asked for."""

    def __init__(self, source: Source, answer: Answer, parts: Sequence[Section]) -> None:
        self._source, self._answer, self._parts = source, answer, parts
        self._lines = tuple(line.line for line in answer.lines)
        self._made = dict(self._all())

    @property
    def names(self) -> tuple[str, ...]:
        """What the columns are called, the short names first."""
        return tuple(self._made)

    @property
    def worst(self) -> tuple[str, ...]:
        """The worst cases in all norms, at every radius."""
        return tuple(name for name in self._made if name.startswith("worst case "))

    def column(self, name: str) -> Offered:
        """Return a column, made now."""
        return self._made[name](name)

    def _all(self) -> Iterator[tuple[str, Maker]]:
        """Yield each name with what makes its column."""
        table = self._source.table
        if CLEAN in table.columns:
            yield "clean", partial(self._accuracy, column=CLEAN)
        attacked = [c for c in table.columns if c.family == "attack" and c.eps is not None]
        for norm in dict.fromkeys(column.norm for column in attacked):
            worst = Column("attack", "worst_case", norm, radius_of(norm, attacked, self._lines, table))
            yield norm, partial(self._accuracy, column=worst)
        types = table.in_mean()
        if MEAN in table.columns:
            yield "corruptions", partial(self._accuracy, column=MEAN)
        for group in GROUPS:
            if own := [column for column in types if _group(column) == group]:
                yield group, partial(self._group, own=own)
        for name, head in _MEANS.items():
            if any(head in grid.heads for grid in self._errors()):
                yield name, partial(self._error, head=head)
        distances = comparison(self._source.results, metric="median_distance")
        for norm in dict.fromkeys(column.norm for column in distances.columns):
            yield f"distance {norm}", partial(self._distance, norm=norm, table=distances)
        yield "checks", self._checks
        yield from ((name, self._fact) for name in FACTS)
        for norm, eps in dict.fromkeys((column.norm, column.eps) for column in attacked):
            worst = Column("attack", "worst_case", norm, eps)
            yield worst.text, partial(self._accuracy, column=worst)
        for column in table.columns:
            if column.perturbation != "worst_case" and column not in (CLEAN, MEAN):
                yield column.text, partial(self._accuracy, column=column)

    def _accuracy(self, name: str, column: Column) -> Offered:
        cells = {
            (line, column): number
            for line in self._lines
            if (number := self._number(line, column)) is not None
        }
        scored = Scored(self._source.entries, self._source.table.in_mean())
        standing = standings(Comparison("accuracy", self._lines, (column,), cells), scored)
        told = {line: _told(number, standing.get((line, column), "")) for (line, _), number in cells.items()}
        if column == MEAN:
            return Offered(name, "mean", "corruptions", told, self._mean_note())
        if column.family == "attack":
            over = "worst case" if column.perturbation == "worst_case" else column.name
            return Offered(name, column.strength, over, told)
        if column.family == "corruption":
            return Offered(name, column.strength, column.name, told)
        return Offered(name, column.text, "", told)

    def _number(self, line: Line, column: Column) -> Number | None:
        """Return the number of a line; of a worst case over one attack that of the attack."""
        for answered in self._answer.lines:
            if answered.line == line and column in self._answer.columns:
                cell = answered.cells[self._answer.columns.index(column)]
                return None if cell is None else cell.number
        table = self._source.table
        if (own := table.cells.get((line, column))) is not None:
            return own
        same = [
            c
            for c in table.columns
            if (c.family, c.norm, c.eps) == (column.family, column.norm, column.eps)
            and column.perturbation in ("worst_case", c.perturbation)
        ]
        seen = ("transfer", "adaptive") if line.access == "any" else (line.access,)
        found = [
            number
            for c in same
            for access in seen
            if column.family == "attack"
            and (number := table.cells.get((line._replace(access=access), c))) is not None
            and number.value is not None
        ]
        return min(found, key=lambda number: number.value or 0.0, default=None)

    def _group(self, name: str, own: Sequence[Column]) -> Offered:
        table = self._source.table
        cells = {
            (line, MEAN): number
            for line in self._lines
            if (number := mean_of(line, own, table.cells)) is not None
        }
        scored = Scored(self._source.entries, own)
        standing = standings(Comparison("accuracy", self._lines, (MEAN,), cells), scored)
        told = {line: _told(number, standing.get((line, MEAN), "")) for (line, _), number in cells.items()}
        return Offered(name, name, "corruptions", told, self._mean_note())

    def _mean_note(self) -> str:
        types = self._source.table.in_mean()
        kinds = len({column.perturbation for column in types})
        severities = sorted({column.severity for column in types if column.severity is not None})
        at = ", ".join(map(str, severities))
        return f"Corruptions: mean over {counted(kinds, 'type')} at severity {at}."

    def _errors(self) -> list[Grid]:
        return [
            part.body
            for part in self._parts
            if part.title == corruption_errors.TITLE and isinstance(part.body, Grid)
        ]

    def _error(self, name: str, head: str) -> Offered:
        """Return a number of the section on errors under corruptions, of the test types where there are several."""
        told: dict[Line, Told] = {}
        for grid in self._errors():
            at = grid.heads.index(head)
            for line in self._lines:
                wanted = {h: str(getattr(line, h.replace(" ", "_"))) for h in grid.heads if h in _KNOWN}
                rows = [
                    row
                    for row in grid.rows
                    if all(
                        dict(zip(grid.heads, row, strict=True))[h] in (text, MISSING)
                        for h, text in wanted.items()
                    )
                ]
                rows = [row for row in rows if any(word.startswith("test types") for word in row)] or rows
                if len(rows) == 1 and rows[0][at] != MISSING:
                    value, _, interval = rows[0][at].partition(" (")
                    told[line] = Told(value, interval=interval.removesuffix(")"))
        return Offered(name, head, "", told, f"{head}: lower is better.")

    def _distance(self, name: str, norm: str, table: Comparison) -> Offered:
        told: dict[Line, Told] = {}
        for line in self._lines:
            numbers = [
                number
                for (other, column), number in table.cells.items()
                if other._replace(access="") == line._replace(access="") and column.norm == norm
            ]
            if numbers:
                best = min(numbers, key=lambda n: float("inf") if n.value is None else n.value)
                told[line] = _told(best, "")
        return Offered(
            name,
            threat_text(norm, None).removesuffix(" minimal"),
            "median distance",
            told,
            "Median distance: that of the attack that finds the nearest adversarial images.",
        )

    def _checks(self, name: str) -> Offered:
        told = {line.line: Told(RELIANCE[line.reliance]) for line in self._answer.lines}
        return Offered(name, "checks", "", told)

    def _fact(self, name: str) -> Offered:
        told: dict[Line, Told] = {}
        for line in self._lines:
            own = [e for e in self._source.entries if e.labels["model"] == line.model]
            recipes = [_recipe(entry.record.spec.get("model")) for entry in own]
            if name == "trainings":
                seeds = {entry.labels["train_seed"] for entry in own}
                told[line] = Told(str(len(seeds)))
            elif name in ("regularizer", "arch"):
                told[line] = Told(str(own[0].labels[name]))
            elif recipes and (value := recipes[0].get(name.replace(" ", "_"))) is not None:
                told[line] = Told(f"{value:g}" if isinstance(value, int | float) else str(value))
        return Offered(name, name, "", told)


_KNOWN = ("model", "defense", "data", "seed", "train seed")


def _told(number: Number, standing: Standing) -> Told:
    return Told(number.short, standing, number.mark, number.interval)


def _group(column: Column) -> str:
    """Return the group of a corruption; empty for one that nothing is known of."""
    name = column.perturbation.partition(" ")[0]
    return str(find("corruption", name).group) if name in names("corruption") else ""


def _recipe(model: Any) -> Mapping[str, Any]:
    recipe = model.get("recipe") if isinstance(model, Mapping) else None
    return recipe if isinstance(recipe, Mapping) else {}
