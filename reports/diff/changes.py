"""What a diff finds: each number of both runs with its change, the images behind it, and what is in one run alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from reports.paired import LEVEL, Difference, p_text
from reports.tables import counted
from robust_eval.findings import MARKS, Verdict

__all__ = ["COLUMNS", "Change", "Diff", "Flip", "Made", "Unpaired"]

COLUMNS = (
    "changed", "model", "number", "before", "after", "change", "low", "high", "p", "n", "to_wrong", "to_right",
    "verdict",
)  # fmt: skip
"""Of the table as data; shares, not percent."""
_NAMED = 2


@dataclass(frozen=True)
class Flip:
    """An image that one run answers rightly and the other does not."""

    index: int
    label: str
    """Its class, by name where the set has names; empty where the records do not tell."""
    answer: str
    """What it is taken for where it is wrong; empty where that is not known."""

    @property
    def text(self) -> str:
        """Such as ``12 (cat → dog)``."""
        inside = " → ".join(part for part in (self.label, self.answer) if part)
        return f"{self.index} ({inside})" if inside else str(self.index)


@dataclass(frozen=True)
class Change:
    """A number of both runs, on the same images."""

    who: str
    what: str
    before: float
    after: float
    difference: Difference
    """Of the second run from the first; its p counts among all of the diff (Holm)."""
    to_wrong: tuple[Flip, ...] = ()
    to_right: tuple[Flip, ...] = ()
    verdict: Verdict = "ok"
    """The worst of the checks beside it, in either run."""
    checks: tuple[str, ...] = ()
    """Those that did not pass, with what to do."""
    data: str = ""
    images: str = ""
    """The hash of the images."""

    @property
    def changed(self) -> bool:
        """Whether noise does not explain the change."""
        return self.difference.p < LEVEL

    @property
    def mark(self) -> str:
        """``?`` or ``!`` where a check speaks up."""
        return MARKS[self.verdict]

    @property
    def place(self) -> str:
        """The model and the number."""
        return f"{self.who}: {self.what}"

    @property
    def told(self) -> str:
        """In words, such as ``net: clean fell by 3.1 points (1.0 to 5.2)``."""
        value, low, high = (100 * part for part in self.difference[:3])
        if value < 0:
            return f"{self.place} fell by {-value:.1f} points ({-high:.1f} to {-low:.1f})"
        return f"{self.place} rose by {value:.1f} points ({low:.1f} to {high:.1f})"

    @property
    def row(self) -> tuple[Any, ...]:
        """Its line of the table as data."""
        value, low, high, p, n = self.difference
        flips = (len(self.to_wrong), len(self.to_right))
        numbers = (self.before, self.after, value, low, high, p, n)
        return (self.changed, self.who, self.what, *numbers, *flips, self.verdict)


class Unpaired(NamedTuple):
    """A number that is not compared."""

    why: str
    who: str
    what: str


class Made(NamedTuple):
    """A fact in which the runs, or what both measured, were made differently."""

    kind: str
    """Such as ``weights``, ``version`` or ``attack``."""
    of: str
    """Of which model or method; empty where it holds for the run."""
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Diff:
    """All of it; numbers that changed stand first, the largest change at the top, then the surest of the others."""

    before: str
    """The name of the first run."""
    after: str
    changes: tuple[Change, ...]
    same: int
    """Numbers of the very same records in both."""
    unpaired: tuple[Unpaired, ...]
    made: tuple[Made, ...]
    remarks: tuple[str, ...] = ()
    """What holds for a run as a whole."""
    strangers: str = ""
    """Which models they have, where nothing can be compared for that."""

    @property
    def beyond_noise(self) -> tuple[Change, ...]:
        """The numbers that changed."""
        return tuple(change for change in self.changes if change.changed)

    @property
    def sentence(self) -> str:
        """All of it in one sentence, such as ``2 of 14 numbers changed beyond noise: ...``."""
        total, found = len(self.changes), self.beyond_noise
        more = [f"{counted(self.same, 'number')} of the very same records"] if self.same else []
        more += [f"{len(self.unpaired)} not compared"] if self.unpaired else []
        rest = f"; {' and '.join(more)}" if more else ""
        if not total and not self.same:
            why = self.strangers or (self.unpaired[0].why if self.unpaired else "there is none")
            return f"No number can be compared: {why}."
        if not total:
            return f"Nothing was measured anew{rest}."
        if not found:
            most = max(self.changes, key=lambda change: abs(change.difference.value))
            among = f" among {total} (Holm)" if total > 1 else ""
            seen = f": the largest difference is {most.told}, {p_text(most.difference.p)}{among}"
            if not most.difference.value:
                seen = ", and none differs at all"
            return f"None of {counted(total, 'number')} changed beyond noise{seen}{rest}."
        told = "; ".join(change.told for change in found[:_NAMED])
        others = len(found) - _NAMED
        down = sum(change.difference.value < 0 for change in found)
        ways = [f"{n} {way}" for n, way in ((down, "fell"), (len(found) - down, "rose")) if n]
        both = f" ({', '.join(ways)})" if others > 0 else ""
        told += f"; and {others} more" if others > 0 else ""
        return f"{len(found)} of {counted(total, 'number')} changed beyond noise{both}: {told}{rest}."

    def table(self) -> pd.DataFrame:
        """Return one row for each number, in this order."""
        return pd.DataFrame([change.row for change in self.changes], columns=list(COLUMNS))
