"""What a gate finds: an outcome for each rule and each number that the rule is about, and one for all together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from reports.drops import Drop
from reports.gate.rules import Rule
from robust_eval.findings import Check

__all__ = ["CODES", "OUTCOMES", "SPOKEN", "Gate", "Judged", "Outcome", "Ruled", "worst_outcome"]

Outcome = Literal["pass", "warn", "unknown", "fail"]
"""``warn`` passes; ``unknown`` cannot be judged."""
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""From the best to the worst."""
CODES: dict[Outcome, int] = {"pass": 0, "warn": 0, "unknown": 3, "fail": 1}
"""The exit code of a gate, by the worst outcome."""
SPOKEN: dict[Outcome, str] = {"pass": "pass", "warn": "warn", "unknown": "cannot judge", "fail": "FAIL"}


@dataclass(frozen=True)
class Judged:
    """One number under one rule."""

    rule: Rule
    outcome: Outcome
    who: str = ""
    """The model, with its defense; empty where a rule found no number."""
    what: str = ""
    """The number, such as ``pgd@linf:8/255``."""
    of_class: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    before: float | None = None
    """The number of the baseline."""
    drop: Drop | None = None
    margin: float | None = None
    """By how much it passes; below 0 where it does not."""
    told: tuple[str, ...] = ()
    """Why, and what to do, one line each."""
    doubts: tuple[Check, ...] = ()
    """Checks that did not pass, of this number or that of the baseline."""


@dataclass(frozen=True)
class Ruled:
    """One rule and all that it was judged on."""

    rule: Rule
    judged: tuple[Judged, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst of them."""
        return worst_outcome(each.outcome for each in self.judged)


@dataclass(frozen=True)
class Gate:
    """The outcome of all rules."""

    run: str
    baseline: str | None
    ruled: tuple[Ruled, ...]
    confidence: float
    by_bound: bool
    """Whether least values were judged by their lower bound."""
    drops: int = 0
    """Drops that were judged together, and share one level."""
    remarks: tuple[str, ...] = ()
    """What holds for the run as a whole."""

    @property
    def outcome(self) -> Outcome:
        """The worst of all."""
        return worst_outcome(ruled.outcome for ruled in self.ruled)

    @property
    def judged(self) -> tuple[Judged, ...]:
        """Every number under every rule."""
        return tuple(each for ruled in self.ruled for each in ruled.judged)

    @property
    def code(self) -> int:
        """The exit code: 0 where everything passes, 1 where a rule fails, else 3 where one cannot be judged."""
        return CODES[self.outcome]

    def count(self, outcome: Outcome) -> int:
        """Return how many rules have this outcome."""
        return sum(ruled.outcome == outcome for ruled in self.ruled)

    @property
    def sentence(self) -> str:
        """All of it in one line, such as ``FAIL: 1 of 3 rules fails, 1 warns``."""
        parts = [f"{self.count('pass')} of {len(self.ruled)} pass"]
        parts += [f"{n} {word}" for outcome, word in _COUNTED if (n := self.count(outcome))]
        return f"{SPOKEN[self.outcome]}: {', '.join(parts)}"


_COUNTED: tuple[tuple[Outcome, str], ...] = (
    ("warn", "with a warning"),
    ("fail", "failed"),
    ("unknown", "cannot be judged"),
)


def worst_outcome(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst of the outcomes, ``pass`` of none."""
    return max(outcomes, key=OUTCOMES.index, default="pass")
