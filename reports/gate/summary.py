"""A gate as Markdown, for the summary of a build or a comment: GitHub's tables, hostile names escaped."""

from __future__ import annotations

from collections.abc import Iterator

from reports.formats.markdown import _escaped as escaped
from reports.gate.lines import HEADS, lines, note, reasons
from reports.gate.verdict import SPOKEN, Gate

__all__ = ["summary"]


def summary(gate: Gate) -> str:
    """Return the whole document."""
    beside = f" beside {gate.baseline}" if gate.baseline else ""
    blocks = [
        f"## Robustness gate: {escaped(gate.run + beside)}",
        f"**{escaped(gate.sentence)}**",
        "\n".join(_table(gate)),
        escaped(note(gate)),
    ]
    if told := list(_reasons(gate)):
        blocks.append("\n".join(told))
    return "\n\n".join(blocks) + "\n"


def _table(gate: Gate) -> Iterator[str]:
    for words in (HEADS, ["---"] * len(HEADS), *(line.words for line in lines(gate))):
        yield "| " + " | ".join(word if word == "---" else escaped(word) for word in words) + " |"


def _reasons(gate: Gate) -> Iterator[str]:
    for reason in reasons(gate):
        about = f" ({escaped(reason.about)})" if reason.about else ""
        yield f"- **{SPOKEN[reason.outcome]}** {escaped(reason.place)}: {escaped('; '.join(reason.told))}{about}"
    yield from (f"- {escaped(remark)}" for remark in gate.remarks)
