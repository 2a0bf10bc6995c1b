"""What common corruptions cost each model, in the numbers that papers state.

The definitions are in :mod:`robust_eval.metrics.corruption_errors`. The 15 test types and the 4 extra ones, which are
held out to choose by, are never in one mean. Where not everything was measured, a mean is over the largest set of types
that were all measured at the same severities, and says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from reports.bodies import Grid
from reports.section import Section, Source
from reports.tables import MISSING, counted, place_of_type
from robust_eval.metrics.corruption_errors import (
    ALEXNET,
    EXTRA_TYPES,
    TEST_TYPES,
    CorruptionErrors,
    Published,
    published,
)
from robust_eval.results.entry import Entry
from robust_eval.rng import Rng

__all__ = ["in_words", "sections"]

TITLE = "Corruption errors"

SEVERITIES = (1, 2, 3, 4, 5)
SEED = 0
"""Of the bootstrap: one number for all models, so that their intervals come from the same resamples."""
NOTHING = (None, None, None)

_Cells = dict[tuple[str, int], pd.DataFrame]
"""The rows of one model at each type and severity."""


class _Line(NamedTuple):
    """What a line is about: one model with or without a defense on one set of images."""

    model: str
    defense: str
    data: str
    seed: int | None
    train_seed: int | None


class _Suite(NamedTuple):
    """Types that may be in one mean."""

    kind: str
    """``test``, ``extra`` or ``other``."""
    files: str
    """Name of the folder that the images were read from; empty where they were made."""

    @property
    def text(self) -> str:
        return f"{self.kind} types" + (f" of {self.files}" if self.files else "")


def sections(source: Source) -> Iterator[Section]:
    """Yield mean errors and, against a baseline, mCE; and as details, the error of each type at each severity.

    Raises ``DataError`` for a baseline that was not measured.
    """
    entries = source.entries
    baseline = source.reference
    found = _gathered(entries)
    if not found:
        return
    clean = {
        _line(entry): entry.record.rows
        for entry in entries
        if entry.labels["family"] == "clean" and _readable(entry)
    }
    lines = [
        _measured(place, cells, clean, _base(place, found, entries, baseline))
        for place, cells in found.items()
    ]
    heads = _heads([line for line, _ in found])
    name = next((base.name for base in (line.base for line in lines) if base is not None), None)
    yield _means(lines, heads, name)
    yield _each(lines, heads, name)


def in_words(contents: Iterable[Section]) -> Iterator[str]:
    """Yield a line of words for each line of the mean errors among the sections of a report."""
    for grid in (section.body for section in contents if section.title == TITLE):
        assert isinstance(grid, Grid), "mean errors are a table of words"
        for row in grid.rows:
            numbers = zip(grid.heads[grid.left :], row[grid.left :], strict=True)
            told = ", ".join(f"{head} {number}" for head, number in numbers if number != MISSING)
            yield f"{', '.join(row[: grid.left])}: {told}"


class _Base(NamedTuple):
    name: str
    line: _Line | None
    """``None`` for published errors."""
    cells: _Cells


class _Measured(NamedTuple):
    line: _Line
    suite: _Suite
    cells: _Cells
    types: tuple[str, ...]
    severities: tuple[int, ...]
    errors: CorruptionErrors
    """Of those types and severities."""
    base: _Base | None
    against: CorruptionErrors | Published | None
    whole: CorruptionErrors | None
    """Of the types that were measured at all five severities."""
    whole_against: CorruptionErrors | Published | None


def _measured(
    place: tuple[_Line, _Suite], cells: _Cells, clean: Mapping[_Line, pd.DataFrame], base: _Base | None
) -> _Measured:
    line, suite = place
    types, severities = _rectangle(cells)
    at_all = tuple(name for name in _types(cells) if all((name, s) in cells for s in SEVERITIES))

    def errors(names: tuple[str, ...], at: tuple[int, ...]) -> CorruptionErrors:
        return CorruptionErrors.of({(n, s): cells[n, s] for n in names for s in at}, clean.get(line))

    def against(names: tuple[str, ...], at: tuple[int, ...]) -> CorruptionErrors | Published | None:
        if base is None:
            return None
        if base.line is None:
            return ALEXNET if at == SEVERITIES and set(names) <= ALEXNET.errors.keys() else None
        if not all((n, s) in base.cells for n in names for s in at):
            return None
        return CorruptionErrors.of(
            {(n, s): base.cells[n, s] for n in names for s in at}, clean.get(base.line)
        )

    return _Measured(
        *(line, suite, cells, types, severities),
        errors(types, severities),
        base,
        against(types, severities),
        errors(at_all, SEVERITIES) if at_all else None,
        against(at_all, SEVERITIES) if at_all else None,
    )


def _means(lines: Sequence[_Measured], heads: tuple[str, ...], baseline: str | None) -> Section:
    rows = []
    for line in lines:
        summary = line.errors.summary(line.against, rng=Rng(SEED))
        found = {m.metric: (m.value, m.ci_low, m.ci_high) for m in summary}
        clean = None if line.errors.clean is None else float(line.errors.clean.mean())
        left = len(line.cells) - len(line.types) * len(line.severities)
        over = (
            f"{counted(len(line.types), 'type')} × {counted(len(line.severities), 'severity', 'severities')}"
        )
        rows.append(
            (
                *_words(line.line, heads),
                line.suite.text,
                over + (f" ({left} more measured)" if left else ""),
                _percent(clean),
                *(
                    _with_interval(found.get(name, NOTHING), 100)
                    for name in ("mean_error", *(("mce", "relative_mce") if baseline else ()))
                ),
            )
        )
    note = (
        "In percent, with 95 % intervals of a bootstrap over images. The mean error is over the types and severities "
        "named beside it; the 4 extra types are held out to choose by, and in no mean with the 15 test types."
    )
    if baseline:
        note += (
            f" mCE: errors summed over severities and divided by those of {baseline}, mean over types; relative mCE: "
            "the same of what corruptions add to the clean error, which is unsteady where they cost the baseline "
            f"little. 100 is as good as {baseline}."
        )
    names = (*_spoken(heads), "corruptions", "mean over", "clean error", "mean error")
    names += ("mCE", "relative mCE") if baseline else ()
    return Section(TITLE, Grid(names, tuple(rows), len(heads) + 2), note)


def _each(lines: Sequence[_Measured], heads: tuple[str, ...], baseline: str | None) -> Section:
    severities = sorted({severity for line in lines for _, severity in line.cells})
    summed = any(line.whole is not None for line in lines)
    rows = []
    for line in lines:
        sums: dict[tuple[str, str], tuple[float | None, ...]] = {}
        if line.whole is not None:
            table = line.whole.by_type(line.whole_against, rng=Rng(SEED))
            columns = (table[name] for name in ("type", "metric", "value", "ci_low", "ci_high"))
            sums = {(name, metric): tuple(values) for name, metric, *values in zip(*columns, strict=True)}
        for name in _types(line.cells):
            cells = [line.cells.get((name, severity)) for severity in severities]
            rows.append(
                (
                    *_words(line.line, heads),
                    *(line.suite.text, name),
                    *(
                        MISSING if cell is None else _percent(1 - float(cell["score"].mean()))
                        for cell in cells
                    ),
                    *([_with_interval(sums.get((name, "summed_error"), NOTHING), 1)] if summed else []),
                    *(
                        [_with_interval(sums.get((name, "corruption_error"), NOTHING), 100)]
                        if summed and baseline
                        else []
                    ),
                )
            )
    note = "Errors in percent at each severity (s1 to s5)"
    if summed:
        note += (
            "; their sum over the five severities, 0 to 5, where all were measured"
            + (f"; and that sum as a percentage of {baseline}'s" if baseline else "")
            + ". Intervals are those of a bootstrap over images at 95 %"
        )
    note += "."
    names = (*_spoken(heads), "corruptions", "type", *(f"s{severity}" for severity in severities))
    names += ("sum", *([f"of {baseline}'s"] if baseline else [])) if summed else ()
    body = Grid(names, tuple(rows), len(heads) + 2)
    return Section("Error of each type at each severity", body, note, folded=True)


def _gathered(entries: Sequence[Entry]) -> dict[tuple[_Line, _Suite], _Cells]:
    """Return the rows of every corruption with a severity, by what may be in one mean."""
    together: dict[tuple[_Line, _Suite], list[Entry]] = defaultdict(list)
    for entry in entries:
        if (
            entry.labels["family"] == "corruption"
            and entry.labels["severity"] is not None
            and _readable(entry)
        ):
            together[_line(entry), _suite(entry)].append(entry)
    found = {}
    for place, same in together.items():
        # two settings of one type are two types, called by what tells them apart
        uses = Counter((_bare(entry), entry.labels["severity"]) for entry in same)
        several = {name for (name, _), count in uses.items() if count > 1}
        found[place] = {
            (
                str(entry.labels["perturbation"]) if _bare(entry) in several else _bare(entry),
                int(entry.labels["severity"]),
            ): entry.record.rows
            for entry in same
        }
    kinds = ("test", "extra", "other")
    return dict(sorted(found.items(), key=lambda item: kinds.index(item[0][1].kind)))


def _base(
    place: tuple[_Line, _Suite],
    found: Mapping[tuple[_Line, _Suite], _Cells],
    entries: Sequence[Entry],
    baseline: str | None,
) -> _Base | None:
    """Return the errors that a line's are divided by: those of the named model on the same images, or AlexNet's."""
    line, suite = place
    if baseline is None:
        plain = {str(e.record.labels.get("data")) for e in entries if e.labels["data"] == line.data}
        return _Base(published(ALEXNET.data).name, None, {}) if plain == {ALEXNET.data} else None
    same = [
        other
        for other, others in found
        if others == suite
        and (other.model, other.defense, other.data, other.seed) == (baseline, "none", line.data, line.seed)
    ]
    if not same:
        return None
    best = min(same, key=lambda other: (other.train_seed != line.train_seed, other.train_seed or 0))
    return _Base(baseline, best, found[best, suite])


def _rectangle(cells: _Cells) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the types and severities of the largest set that was measured in full."""
    at: dict[str, set[int]] = defaultdict(set)
    for name, severity in cells:
        at[name].add(severity)

    def covered(severities: tuple[int, ...]) -> int:
        return len(severities) * sum(set(severities) <= measured for measured in at.values())

    candidates = sorted({tuple(sorted(measured)) for measured in at.values()})
    best = max(candidates, key=lambda severities: (covered(severities), len(severities)))
    return tuple(name for name in _types(cells) if set(best) <= at[name]), best


def _types(cells: _Cells) -> list[str]:
    return sorted({name for name, _ in cells}, key=place_of_type)


def _line(entry: Entry) -> _Line:
    return _Line(*(entry.labels[name] for name in _Line._fields))


def _suite(entry: Entry) -> _Suite:
    name = _bare(entry)
    kind = "test" if name in TEST_TYPES else "extra" if name in EXTRA_TYPES else "other"
    return _Suite(kind, str(entry.params.get("files") or ""))


def _bare(entry: Entry) -> str:
    return str(entry.record.labels.get("perturbation"))


def _readable(entry: Entry) -> bool:
    return {"label", "score"} <= set(entry.record.rows.columns) and bool(len(entry.record.rows))


def _heads(lines: Sequence[_Line]) -> tuple[str, ...]:
    varied = {name for name in _Line._fields if len({getattr(line, name) for line in lines}) > 1}
    return tuple(name for name in _Line._fields if name in {"model", "defense"} | varied)


def _words(line: _Line, heads: Sequence[str]) -> Iterator[str]:
    for name in heads:
        value = getattr(line, name)
        yield MISSING if value is None else str(value)


def _spoken(heads: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.replace("_", " ") for name in heads)


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f}"


def _with_interval(triple: Sequence[float | None], scale: int) -> str:
    digits = 1 if scale == 100 else 2
    value, low, high = (None if number is None or pd.isna(number) else scale * number for number in triple)
    if value is None:
        return MISSING
    known = low is not None and high is not None
    return f"{value:.{digits}f}" + (f" ({low:.{digits}f}–{high:.{digits}f})" if known else "")
