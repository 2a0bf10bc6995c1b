"""The report as ``table.md``: plain enough to read as text, complete enough to quote from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reports.grid import Grid
from reports.sections.agreement import EXPLAINED, HEADS
from reports.sections.contents import CERTIFIED, COST, Sections, Setting
from reports.sections.trust import RAISED, passed_in_words, spoken
from reports.tables import CLEAN, MEAN, MISSING, Comparison, heading, is_share
from robust_eval.findings import MARKS

__all__ = ["markdown"]

_WIDTH = 6
"""Columns of numbers that stay readable side by side."""


def markdown(parts: Sections) -> str:
    """Return the whole report in GitHub's Markdown."""
    blocks = ["# Robustness report", *map(_escaped, parts.statement)]
    blocks += _trust(parts)
    blocks += _numbers("Attacks" if parts.attacks.columns != (CLEAN,) else "Clean accuracy", parts.attacks)
    blocks += _numbers("Corruptions", parts.corruptions)
    for grid in parts.corruption_errors:
        blocks += _titled(grid)
    blocks += _numbers("Deformations", parts.deformations)
    blocks += _numbers("Median distance of the smallest perturbation", parts.distances)
    for table in parts.further:
        blocks += _numbers(heading(table), table)
    for grid in parts.grids:
        blocks += _titled(grid)
    if parts.agreements:
        rows = [line.texts() for line in parts.agreements]
        blocks += ["## Agreement with other libraries", EXPLAINED, _grid(HEADS, rows, left=4)]
    blocks += ["## How to read this", _bullets(parts.how_to_read)]
    blocks += _settings("Parameters of the attacks", "attack", "threat", parts.attack_settings, COST)
    blocks += _settings("Parameters of the corruptions", "corruption", "severity", parts.corruption_settings)
    blocks += _settings("Parameters of the defenses", "defense", "scored over", parts.defense_settings)
    # types hang together: five severities side by side
    blocks += _numbers("Accuracy under every corruption", parts.every_corruption, width=5)
    blocks += ["## Models", _grid(["model", "arch", "regularizer", "train seed"], parts.models)]
    return "\n\n".join(blocks) + "\n"


def _titled(grid: Grid) -> list[str]:
    table = _grid(grid.heads, grid.rows, left=grid.left)
    if grid.folded:
        summary = f"<details><summary>{_escaped(grid.title)}</summary>"
        return [summary, _escaped(grid.note), table, "</details>"]
    return [f"## {_escaped(grid.title)}", _escaped(grid.note), table]


def _numbers(title: str, table: Comparison, *, width: int = _WIDTH) -> Iterator[str]:
    if not table.columns or not table.lines:
        return
    unit = "Percent, with 95 % intervals." if is_share(table.metric) else "With 95 % intervals."
    if table.metric == "median_distance":
        unit = (
            "In the attack's norm, pixels in [0, 1], over the images that were attacked, with 95 % intervals."
        )
    if table.metric == "certified_accuracy":
        unit = f"{CERTIFIED} {unit}"
    yield f"## {title}"
    yield unit
    for chunk in table.chunks(width, repeat=(CLEAN, MEAN)):
        rows = [
            [*chunk.head_texts(line), *(chunk.text(line, c) for c in chunk.columns)] for line in chunk.lines
        ]
        heads = [name.replace("_", " ") for name in chunk.heads]
        yield _grid([*heads, *(c.text for c in chunk.columns)], rows, left=len(heads))


def _trust(parts: Sections) -> Iterator[str]:
    if not parts.trust:
        return
    several = len({line.data for line in parts.trust}) > 1
    heads = ["model", "defense", *(["data"] if several else []), "verdict", "raised", "examined"]
    yield "## Trust"
    yield _grid(
        heads,
        [
            [
                *(line.model, line.defense, *([line.data] if several else [])),
                *(line.words, line.figures or MISSING, line.examined),
            ]
            for line in parts.trust
        ],
    )
    if passed := passed_in_words(parts.trust):
        yield _bullets([_escaped(line) for line in passed])
    if not parts.advice:
        yield "Every check was made, and none warned or failed."
        return
    rows = [
        [
            f"{MARKS[a.verdict]} {RAISED[a.verdict]}",
            spoken(a.name),
            str(a.records),
            a.figures,
            a.advice,
        ]
        for a in parts.advice
    ]
    yield "A marked number is to be doubted for the reason below."
    yield _grid(["mark", "check", "records", "figure", "what to do"], rows)


def _settings(title: str, kind: str, strength: str, settings: Sequence[Setting], cost: str = "") -> list[str]:
    if not settings:
        return []
    rows = [[*setting[:3], *([setting.cost] if cost else [])] for setting in settings]
    return [f"## {title}", _grid([kind, strength, "parameters", *([cost] if cost else [])], rows, left=3)]


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int | None = None) -> str:
    left = len(head) if left is None else left
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    body = [[_escaped(cell) for cell in row] for row in [head, *rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [body[0], rule, *body[1:]])


def _escaped(text: str) -> str:
    """Keep names from being read as markup."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # brackets alone and underscores inside a word are no markup: they stay, so that the text stays readable
    for markup in (r"[\\`*|]", r"\](?=[(\[:])", r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"):
        text = re.sub(markup, r"\\\g<0>", text)
    return text
