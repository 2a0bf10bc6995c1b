"""What every format of a diff says: the words of a line, facts that differ, and why numbers are not compared."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from reports.diff.changes import Change, Diff, Made, Unpaired
from reports.gate.named import MEAN
from reports.paired import LEVEL
from reports.tables import MISSING

__all__ = ["grouped", "heads", "legend", "made_lines", "of_text", "shortened", "words_of"]

_HASH = re.compile(r"\b[0-9a-f]{40,64}\b")
_NAMED = 4


def heads(diff: Diff) -> tuple[str, ...]:
    """Return the headings of the table of numbers."""
    return ("number" if _alone(diff) else "model: number", "accuracy", "change", "p", "lost", "won")


def words_of(diff: Diff, change: Change) -> tuple[str, ...]:
    """Return the words of a line of that table."""
    value, low, high, p, _ = change.difference
    points = (f"{100 * part:+.1f}" for part in (value, low, high))
    sides = (change.to_wrong, change.to_right)
    # a mean has no flips of its own
    flips = (MISSING if change.what == MEAN else str(len(side)) for side in sides)
    return (
        change.what if _alone(diff) else change.place,
        f"{100 * change.before:.1f} → {100 * change.after:.1f}{change.mark}",
        "{} ({} to {})".format(*points),
        "<0.001" if p < 0.001 else f"{p:.2g}",
        *flips,
    )


def legend(diff: Diff) -> str:
    """Return how to read that table."""
    sizes = sorted({change.difference.n for change in diff.changes})
    n = f"n = {sizes[0]:,}" if sizes[:1] == sizes[-1:] else f"n = {sizes[0]:,} to {sizes[-1]:,}"
    whose = f" of {diff.changes[0].who}" if _alone(diff) else ""
    parts = [
        f"Accuracy{whose} in %, {diff.before} → {diff.after}, on the same images ({n}); change in points with its 95 % "
        f"interval; p among all {len(diff.changes)} (Holm), beyond noise below {LEVEL:g}; lost, won: images right → "
        "wrong, wrong → right."
    ]
    marks = {change.mark for change in diff.changes}
    parts += ["?: a check warns or could not be made."] if "?" in marks else []
    parts += ["!: a check fails."] if "!" in marks else []
    return " ".join(parts)


def made_lines(diff: Diff) -> Iterator[str]:
    """Yield what was made differently, a sentence each without its end."""
    for made in diff.made:
        yield f"{of_text(made)}: {shortened(made.before)} → {shortened(made.after)}"


def of_text(made: Made) -> str:
    """Return of what a fact is, such as ``attack pgd steps``."""
    return " ".join(dict.fromkeys(part for part in (made.kind, made.of, made.name) if part))


def shortened(text: str) -> str:
    """Return a text with its hashes cut to what tells them apart."""
    return _HASH.sub(lambda found: found[0][:12], text)


def grouped(unpaired: Sequence[Unpaired], *, named: int | None = _NAMED) -> Iterator[tuple[str, str]]:
    """Yield each reason with the numbers that it keeps from being compared, model by model, of many the first."""
    by_reason: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for item in unpaired:
        by_reason[item.why][item.who].append(item.what)
    for why, by_model in by_reason.items():
        told = [f"{who}: {_some(which, named)}" for who, which in by_model.items()]
        yield why, _some(told, named, "; ")


def _some(texts: Sequence[str], named: int | None, between: str = ", ") -> str:
    shown = texts[:named]
    more = f" and {len(texts) - len(shown)} more" if len(texts) > len(shown) else ""
    return between.join(shown) + more


def _alone(diff: Diff) -> bool:
    """Whether all is of one model, which the legend names."""
    return len({change.who for change in diff.changes}) == 1
