"""The kinds of body that a section of a report may have; a format spells out kinds, and knows no section.

A kind says what its content is, never how it looks. A new kind is a class here, a line in :data:`Body`, and a way of
spelling it in each of :mod:`reports.formats`: Markdown and LaTeX do not pass the type checker without one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from reports.answer import Reliance
from reports.page_bodies import Commands, PageOnly, Profiles, Whole
from reports.picture_bodies import GALLERY, Album, Exhibit, Gallery, Picture, Sheet, Sheets, Shot
from reports.standing import Standing
from reports.tables import Column, Comparison, Line, Number, caption
from robust_eval.findings import MARKS, Verdict

if TYPE_CHECKING:
    import altair

__all__ = [
    "GALLERY",
    "NONE_RAISED",
    "RAISED",
    "RELIANCE",
    "Advice",
    "Album",
    "Answer",
    "AnswerCell",
    "AnswerLine",
    "Body",
    "Chart",
    "Commands",
    "Exhibit",
    "Facts",
    "Gallery",
    "Grid",
    "Legend",
    "Listing",
    "Numbers",
    "PageOnly",
    "Paragraphs",
    "Picture",
    "Profiles",
    "Recorded",
    "Records",
    "Setting",
    "Settings",
    "Sheet",
    "Sheets",
    "Shot",
    "Trust",
    "Trusts",
    "Whole",
    "legend_of",
    "spoken",
]

RAISED: dict[Verdict, str] = {"not_made": "not made", "warn": "warns", "fail": "fails"}
"""What a check did that was raised."""
NONE_RAISED = "No check warned, failed or could not be made."


@dataclass(frozen=True)
class Paragraphs:
    """Running text."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Legend:
    """How to read the numbers above it, one sentence each. The page puts it below them without a heading."""

    texts: tuple[str, ...]


RELIANCE: dict[Reliance, str] = {
    "relied": "✓",
    "unexamined": "–",
    "not_made": MARKS["not_made"],
    "warn": MARKS["warn"],
    "fail": MARKS["fail"],
}
"""One symbol for what the checks say of a line."""


class AnswerCell(NamedTuple):
    """One of the numbers that decide."""

    number: Number
    standing: Standing


class AnswerLine(NamedTuple):
    """One model, or one behind a defense."""

    line: Line
    seen: str
    """Against whom a defended model's numbers are, such as ``adaptive``; empty of a model itself."""
    cells: tuple[AnswerCell | None, ...]
    reliance: Reliance
    words: str
    """What the checks say of it."""


@dataclass(frozen=True)
class Answer:
    """What a report says first: what was asked, the numbers that decide, and sentences to quote."""

    asked: tuple[str, ...]
    heads: tuple[str, ...]
    """Fields of a line that tell lines apart, beside model and defense."""
    columns: tuple[Column, ...]
    lines: tuple[AnswerLine, ...]
    sentences: tuple[str, ...]
    first: int
    """Lines that a first screen has room for; the others are folded."""

    @property
    def legend(self) -> str:
        """What the signs in it mean, of those that are there."""
        standing = {cell.standing for line in self.lines for cell in line.cells if cell is not None}
        marks = {cell.number.mark for line in self.lines for cell in line.cells if cell is not None}
        told = legend_of(standing, {*(RELIANCE[line.reliance] for line in self.lines), *marks})
        absent = any(cell is None for line in self.lines for cell in line.cells)
        return "; ".join(filter(None, [told, "– for a number: not measured" if absent else ""]))

    def caption(self, *, intervals: bool = True) -> str:
        """What the numbers are: their unit and n, what stands beside them, and what the signs mean."""
        numbers = [cell.number for line in self.lines for cell in line.cells if cell is not None]
        return ". ".join(filter(None, [caption(numbers, intervals=intervals), self.legend])) + "."


@dataclass(frozen=True)
class Numbers:
    """Numbers with intervals and marks, in as many tables as a format needs to fit them."""

    table: Comparison
    label: str
    """By which a paper refers to it."""
    together: int | None = None
    """Columns that hang together: not more than these stand side by side."""


@dataclass(frozen=True)
class Grid:
    """A table of words that may be quoted in a paper."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    """How many columns are names; the others are numbers."""


@dataclass(frozen=True)
class Listing:
    """A table of words for whoever checks a report: LaTeX leaves it out."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    """How many columns are names; the others are numbers."""


class Setting(NamedTuple):
    """One method with all its parameters."""

    name: str
    strength: str
    params: str
    cost: str = ""
    """What it took on average for an image that was attacked."""


@dataclass(frozen=True)
class Settings:
    """Methods with their parameters."""

    kind: str
    """What the methods are, such as ``attack``."""
    strength: str
    """Heading of their strength, such as ``severity``."""
    rows: tuple[Setting, ...]
    cost: str = ""
    """Heading of their cost; empty where it is not stated."""


class Advice(NamedTuple):
    """One check that warned, failed or could not be made somewhere."""

    name: str
    verdict: Verdict
    records: int
    figures: str
    advice: str


class Trust(NamedTuple):
    """What the checks say of one model with one defense."""

    model: str
    defense: str
    data: str
    verdict: Verdict
    """The worst of all its numbers."""
    words: str
    """The verdict, for people."""
    raised: tuple[Advice, ...]
    passed: tuple[str, ...]
    """Names of the checks that ran and found nothing."""
    relied: bool
    """Whether nothing was raised on a model that was examined, in every norm that was asked for."""
    examined: str
    """How closely the model was looked at, and on how many images."""

    @property
    def figures(self) -> str:
        """The raised checks with their figures on one line."""
        by_name: dict[str, list[str]] = defaultdict(list)
        for item in self.raised:
            by_name[f"{MARKS[item.verdict]} {spoken(item.name)}"].append(item.figures)
        return "; ".join(f"{name} {', '.join(figures)}" for name, figures in by_name.items())


@dataclass(frozen=True)
class Trusts:
    """What the checks say of each model, and what to do about those that were raised."""

    lines: tuple[Trust, ...]
    advice: tuple[Advice, ...]

    @property
    def several_data(self) -> bool:
        """Whether lines have to say on which data."""
        return len({line.data for line in self.lines}) > 1

    @property
    def passed(self) -> list[str]:
        """Which checks ran and found nothing: those of every line first, then what else did on which."""
        everywhere = set.intersection(*(set(line.passed) for line in self.lines)) if self.lines else set()
        same: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for line in self.lines:
            rest = tuple(name for name in line.passed if name not in everywhere)
            same[rest].append(line.model if line.defense == "none" else f"{line.model} ({line.defense})")
        told = [("all", tuple(sorted(everywhere))), *((", ".join(who), rest) for rest, who in same.items())]
        return [f"Passed by {who}: {', '.join(map(spoken, names))}." for who, names in told if names]


@dataclass(frozen=True)
class Chart:
    """A drawing, which is also a file of its own."""

    name: str
    """Of its files."""
    caption: str
    drawing: altair.TopLevelMixin
    """As wide as a page."""
    paper: altair.TopLevelMixin | None = None
    """For a column of a paper. Default: the drawing."""
    wide: bool = False
    """Whether the paper is to give it two columns."""


@dataclass(frozen=True)
class Facts:
    """What is known of a run: names with their values."""

    pairs: tuple[tuple[str, str], ...]


class Recorded(NamedTuple):
    """One record, as far as it is not a number: its costs are ``None`` where they were not recorded."""

    model: str
    defense: str
    access: str
    perturbation: str
    """With its strength."""
    seconds: float | None
    forwards: int | None
    backwards: int | None
    device: str
    checks: tuple[tuple[str, Verdict, str], ...]
    """Name, verdict and figure of each."""
    run: str
    key: str


@dataclass(frozen=True)
class Records:
    """Records with their costs and their checks."""

    lines: tuple[Recorded, ...]


Body = (
    Answer
    | Paragraphs
    | Legend
    | Numbers
    | Grid
    | Listing
    | Settings
    | Trusts
    | Sheets
    | Gallery
    | Chart
    | Facts
    | Records
    | Whole
    | Profiles
    | Commands
)


def legend_of(standing: Collection[Standing], signs: Collection[str]) -> str:
    """Return what the signs in a table mean, of those that are there."""
    told = [
        ("bold: the best of its column, as a test at 0.05 says of every other", "best" in standing),
        ("†: no test tells it from the highest", "tied" in standing),
        ("✓: no check objects", "✓" in signs),
        ("?: a check warns or could not be made", "?" in signs),
        ("!: a check fails", "!" in signs),
        ("– for the checks: not examined", "–" in signs),
    ]
    return "; ".join(text for text, there in told if there)


def spoken(name: str) -> str:
    """Return a check's name in words."""
    return name.replace("_", " ")
