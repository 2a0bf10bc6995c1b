"""The report as ``table.md``: plain enough to read as text, complete enough to quote from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import assert_never

from reports.bodies import (
    GALLERY,
    NONE_RAISED,
    RAISED,
    RELIANCE,
    Answer,
    AnswerCell,
    Chart,
    Facts,
    Gallery,
    Grid,
    Legend,
    Listing,
    Numbers,
    PageOnly,
    Paragraphs,
    Records,
    Settings,
    Sheets,
    Trusts,
    spoken,
)
from reports.section import Section
from reports.tables import CLEAN, MEAN, MISSING
from robust_eval.findings import MARKS

__all__ = ["markdown"]

_WIDTH = 6
"""Columns of numbers that stay readable side by side."""


def markdown(contents: Sequence[Section], title: str = "Robustness report") -> str:
    """Return the whole report in GitHub's Markdown."""
    blocks = [f"# {title}", *(block for section in contents for block in _blocks(section))]
    return "\n\n".join(blocks) + "\n"


def _blocks(section: Section) -> Iterator[str]:
    body = list(_body(section))
    if not body:
        return
    # numbers are searched for and quoted from: they stay unfolded
    folded = section.folded and not isinstance(section.body, Numbers)
    title = _escaped(section.title)
    if title:
        yield f"<details><summary>{title}</summary>" if folded else f"## {title}"
    if section.note:
        yield _escaped(section.note)
    yield from body
    if folded:
        yield "</details>"


def _body(section: Section) -> Iterator[str]:
    match section.body:
        case Answer() as answer:
            yield from _answer(answer)
        case Paragraphs(texts):
            yield from map(_escaped, texts)
        case Legend(texts):
            yield _bullets(texts)
        case Numbers() as numbers:
            yield from _numbers(numbers)
        case Grid(heads, rows, left) | Listing(heads, rows, left):
            yield _grid(heads, rows, left=left)
        case Settings(kind, strength, settings, cost):
            lines = [[*setting[:3], *([setting.cost] if cost else [])] for setting in settings]
            yield _grid([kind, strength, "parameters", *([cost] if cost else [])], lines, left=3)
        case Trusts() as trusts:
            yield from _trusts(trusts)
        case Gallery():
            yield f"![Clean images, adversarials and magnified differences]({GALLERY})"
        case Chart() | Sheets() | Facts() | Records() | PageOnly():
            return  # need a page
        case unknown:
            assert_never(unknown)


def _answer(answer: Answer) -> Iterator[str]:
    yield from map(_escaped, answer.asked)
    if not answer.lines:
        return
    defended = any(line.seen for line in answer.lines)
    heads = [
        "model",
        "defense",
        *(["attacker"] if defended else []),
        *(h.replace("_", " ") for h in answer.heads),
    ]
    rows = [
        [
            *(_escaped(word) for word in (line.line.model, line.line.defense)),
            *([_escaped(line.seen or MISSING)] if defended else []),
            *(_escaped(str(getattr(line.line, head))) for head in answer.heads),
            *map(_deciding, line.cells),
            RELIANCE[line.reliance],
        ]
        for line in answer.lines
    ]
    names = [_escaped(head) for head in (*heads, *(column.text for column in answer.columns), "checks")]
    yield _table(names, rows, left=len(heads))
    told = answer.caption()
    yield _escaped(told[0].upper() + told[1:])
    yield _bullets(answer.sentences)


def _deciding(cell: AnswerCell | None) -> str:
    if cell is None:
        return MISSING
    number = cell.number
    short = {"best": f"**{_escaped(number.short)}**", "tied": f"{_escaped(number.short)}†"}.get(
        cell.standing, _escaped(number.short)
    )
    interval = f" ({_escaped(number.interval)})" if number.interval else ""
    return f"{short}{number.mark}{interval}"


def _numbers(numbers: Numbers) -> Iterator[str]:
    width = _WIDTH if numbers.together is None else min(_WIDTH, numbers.together)
    for chunk in numbers.table.chunks(width, repeat=(CLEAN, MEAN)):
        rows = [
            [*chunk.head_texts(line), *(chunk.text(line, c) for c in chunk.columns)] for line in chunk.lines
        ]
        heads = [name.replace("_", " ") for name in chunk.heads]
        yield _grid([*heads, *(c.text for c in chunk.columns)], rows, left=len(heads))


def _trusts(trusts: Trusts) -> Iterator[str]:
    several = trusts.several_data
    yield _grid(
        ["model", "defense", *(["data"] if several else []), "verdict", "raised", "examined"],
        [
            [
                *(line.model, line.defense, *([line.data] if several else [])),
                *(line.words, line.figures or MISSING, line.examined),
            ]
            for line in trusts.lines
        ],
    )
    if trusts.passed:
        yield _bullets(trusts.passed)
    if not trusts.advice:
        yield NONE_RAISED
        return
    rows = [
        [
            f"{MARKS[a.verdict]} {RAISED[a.verdict]}",
            spoken(a.name),
            str(a.records),
            a.figures,
            a.advice,
        ]
        for a in trusts.advice
    ]
    yield "A marked number is to be doubted for the reason below."
    yield _grid(["mark", "check", "records", "figure", "what to do"], rows)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int | None = None) -> str:
    body = [[_escaped(cell) for cell in row] for row in [head, *rows]]
    return _table(body[0], body[1:], left=len(head) if left is None else left)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Return a table of what is escaped already."""
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def _escaped(text: str) -> str:
    """Keep names from being read as markup."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # brackets alone and underscores inside a word are no markup: they stay, so that the text stays readable
    for markup in (r"[\\`*|]", r"\](?=[(\[:])", r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"):
        text = re.sub(markup, r"\\\g<0>", text)
    return text
