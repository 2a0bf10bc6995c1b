"""What the paper said and what we got: its table as it has it, each number beside ours, and a verdict."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pydantic

from reports.bodies import Grid, Paragraphs
from reports.published import Beside, beside
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.config.paper import Paper
from robust_eval.config.toml import read_toml, toml
from robust_eval.errors import RobustEvalError
from robust_eval.paths import is_file
from robust_eval.printable import printable, printable_all

__all__ = ["in_words", "paper_table", "sections"]

TITLE = "The paper's table"
OURS = "Paper / ours, {unit}; ours is the mean of {trainings}."
RULE = (
    " =: agrees, ≠: differs. The difference has a 95 % interval over trainings and images (t); where the paper states "
    "no standard deviation, its number counts as one training with the spread of ours. Agrees: 0 is in the interval, "
    "and half of it is at most {within}; differs: 0 is outside; else it cannot be told."
)
SMALL = (
    "This is the small size, on {ours}: the paper's numbers, on {theirs}, are shown to compare the pattern of rows and "
    "columns, and no verdict is given. "
)
UNITS = {"percent": "in %", "fraction": "as parts of one", "number": "as numbers"}


class _Run(NamedTuple):
    name: str
    paper: Paper
    found: tuple[Beside, ...]
    data: tuple[str, ...]


def sections(source: Source) -> Iterator[Section]:
    """Yield for each run that makes a published table again: the table, then each number with its verdict."""
    for run in _runs(source):
        if isinstance(run, str):
            yield Section(TITLE, Paragraphs((run,)))
            continue
        paper, title = run.paper, f"{run.paper.title}, {run.paper.table}"
        if not run.found:
            yield Section(title, Paragraphs(("The paper prints no number.", *_open(paper))))
            continue
        link = f" ({paper.link})" if paper.link else ""
        yield Section(title, _pivot(run), _note(run), caption=f"{title}{link}. {_note(run)}")
        heads = ("row", "column", "verdict", "paper", "ours", "difference")
        if paper.scale == "full" and any(each.mean is not None for each in run.found):
            yield Section(
                "", Grid(heads, tuple(_line(each) for each in run.found), 3), _footnotes(run), folded=True
            )
        if told := tuple(_open(paper)):
            yield Section("", Paragraphs(told))


def in_words(source: Source) -> tuple[str, ...]:
    """Return a line for each table: how many numbers agree, and how many do not."""
    lines = []
    for run in _runs(source):
        if isinstance(run, str) or not run.found:
            continue
        counts = Counter(each.verdict for each in run.found)
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        if run.paper.scale == "small":
            told = "which stand beside ours without a verdict: this is the small size"
        lines.append(f"{run.paper.table}: {len(run.found)} published numbers, {told}; see paper.csv")
    return tuple(lines)


def paper_table(source: Source) -> pd.DataFrame | None:
    """Return every published number with ours as a table; ``None`` where no run makes a published table."""
    rows = [row for run in _runs(source) if not isinstance(run, str) for row in _rows(run)]
    return pd.DataFrame(rows) if rows else None


def _runs(source: Source) -> Iterator[_Run | str]:
    """Yield what there is of each run with a paper; a sentence where its file cannot be read."""
    loaded = source.loaded
    for folder, run in zip(source.folders, loaded.runs, strict=False):
        paper = _paper(folder, run)
        if isinstance(paper, Paper):
            entries = [
                entry
                for entry in (*loaded.entries, *loaded.analyses)
                if run in loaded.held.get(entry.record.key, (entry.run,))
            ]
            sets = tuple(dict.fromkeys(str(entry.labels["data"]) for entry in entries))
            yield _Run(run, paper, tuple(beside(paper, entries)), sets)
        elif isinstance(paper, str):
            yield paper


def _paper(folder: Path, run: str) -> Paper | str | None:
    path = folder / "experiment.toml"
    if not is_file(path):
        return None
    try:
        tables = toml(read_toml(path, where="experiment.toml"), where="experiment.toml")
        given = printable_all(tables.get("paper"))
        return None if given is None else pydantic.TypeAdapter(Paper).validate_python(given)
    except RobustEvalError as error:
        reason = str(error).splitlines()[0]
    except pydantic.ValidationError as error:
        reason = f"{error.error_count()} problems in [paper]"
    return printable(f"The experiment file of {run} cannot be read: {reason}.")


def _pivot(run: _Run) -> Grid:
    """Return the table as the paper has it."""
    layout = run.paper.layout
    rows = list(dict.fromkeys(each.row for each in run.found))
    columns = list(dict.fromkeys(each.column for each in run.found))
    cells = {(each.row, each.column): each for each in run.found}
    mark = _marks(run)
    body = tuple(
        (row, *(MISSING if (row, c) not in cells else _cell(cells[row, c], mark) for c in columns))
        for row in rows
    )
    head = layout.rows + (f" \\ {layout.columns}" if layout.columns else "")
    return Grid((head, *columns), body, 1)


def _cell(each: Beside, marks: dict[str, int]) -> str:
    ours = _ours(each)
    mark = f" [{marks[each.reported.footnote]}]" if each.reported.footnote else ""
    sign = {"agrees": " =", "differs": " ≠"}.get(each.verdict, "")
    return f"{_figure(each.reported.value, each)}{mark} / {ours}{sign}"


def _ours(each: Beside) -> str:
    if each.mean is None:
        return MISSING
    spread = f" ± {_figure(statistics.stdev(each.ours), each)}" if len(each.ours) > 1 else ""
    return f"{_figure(each.mean, each)}{spread}"


def _figure(value: float, each: Beside, *, signed: bool = False) -> str:
    digits = 3 if each.unit == "fraction" else 2
    if each.unit == "number" and abs(each.reported.value) >= 100:
        digits = 1
    return f"{value:{'+' if signed else ''}.{digits}f}"


def _line(each: Beside) -> tuple[str, ...]:
    difference = MISSING
    if each.difference is not None and each.half is not None:
        difference = f"{_figure(each.difference, each, signed=True)} ± {_figure(each.half, each)}"
    verdict = each.verdict + (f": {each.reason}" if each.reason else "")
    return each.row, each.column, verdict, _figure(each.reported.value, each), _ours(each), difference


def _note(run: _Run) -> str:
    paper = run.paper
    most = max((len(each.ours) for each in run.found), default=0)
    of_ours = OURS.format(
        unit=" or ".join(dict.fromkeys(UNITS[each.unit] for each in run.found)),
        trainings="one training" if most < 2 else f"{most} trainings, ± their standard deviation",
    )
    if paper.scale == "small":
        return (
            SMALL.format(ours=", ".join(run.data) or "nothing yet", theirs=paper.data)
            + of_ours
            + _footnotes(run)
        )
    share = "2 points" if paper.layout.unit != "number" else "a tenth of the paper's number"
    return (
        of_ours + RULE.format(within=share if paper.within is None else f"{paper.within:g}") + _footnotes(run)
    )


def _footnotes(run: _Run) -> str:
    return "".join(f" [{number}] {text}" for text, number in _marks(run).items())


def _marks(run: _Run) -> dict[str, int]:
    texts = dict.fromkeys(each.reported.footnote for each in run.found if each.reported.footnote)
    return {text: number for number, text in enumerate(texts, start=1)}


def _open(paper: Paper) -> Iterator[str]:
    """Yield what the paper leaves open with our choice, and what is not as it says."""
    if paper.link:
        yield f"Source: {paper.title}, {paper.link}"
    yield from (f"Of the paper: {text}" for text in paper.notes)
    size = "" if paper.scale == "full" else " at full size"
    for each in paper.chosen:
        yield f"Our choice{size}: {each.field} = {each.choice}. {each.why}"
    yield from (f"Not as in the paper: {text}" for text in paper.differs)


def _rows(run: _Run) -> Iterator[dict[str, Any]]:
    paper = run.paper
    for each in run.found:
        half, difference = each.half, each.difference
        yield {
            "paper": paper.title,
            "link": paper.link,
            "table": paper.table,
            "scale": paper.scale,
            "run": run.name,
            "row": each.row,
            "column": each.column,
            "model": each.reported.model,
            "perturbation": each.reported.perturbation,
            "defense": each.reported.defense,
            "metric": each.metric,
            "unit": each.unit,
            "paper_value": each.reported.value,
            "paper_sd": each.reported.sd,
            "ours": _rounded(each.mean),
            "ours_sd": _rounded(statistics.stdev(each.ours) if len(each.ours) > 1 else None),
            "trainings": len(each.ours),
            "n": each.n,
            "difference": _rounded(difference),
            "low": _rounded(None if half is None or difference is None else difference - half),
            "high": _rounded(None if half is None or difference is None else difference + half),
            "verdict": each.verdict,
            "reason": each.reason,
            "footnote": each.reported.footnote,
        }


def _rounded(value: float | None) -> float | None:
    """Return a number without what binary fractions add to it."""
    return None if value is None else round(value, 6)
