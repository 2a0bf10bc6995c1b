"""What is found out: a number with its interval, and a reason to trust it or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["MARKS", "SCHEMA", "STYLES", "VERDICTS", "Check", "Measurement", "Verdict", "reason", "worst"]

SCHEMA = 1
"""Version of what a record holds; raised when its meaning changes."""

Verdict = Literal["ok", "not_made", "warn", "fail"]
"""``not_made``: the check should have been made and could not be, so that nothing is known."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""From the best to the worst."""
MARKS: dict[Verdict, str] = {"ok": "", "not_made": "?", "warn": "?", "fail": "!"}
"""What stands behind a number."""
STYLES: dict[Verdict, str] = {"ok": "", "not_made": "yellow", "warn": "yellow", "fail": "bold red"}
"""How a verdict looks in a terminal."""


@dataclass(frozen=True)
class Measurement:
    """One number with its 95 % interval."""

    metric: str
    """``accuracy`` (0..1), ``median_distance`` (in the attack's norm) and others by name."""
    value: float | None
    """``None`` where the number does not exist, such as the median distance when most examples resist."""
    ci_low: float | None
    ci_high: float | None
    n: int
    eps: float | None = None
    """The radius it was measured at, in units of the [0, 1] pixel range."""
    estimated_for: int | None = None
    """Of an estimate: the number of images that it is for, of which ``n`` were attacked; ``None`` of all others."""


@dataclass(frozen=True)
class Check:
    """A reason to trust a number or not, with the figure that led to it and one line on what to do."""

    name: str
    verdict: Verdict
    figure: float
    """What was measured; 0 where the check could not be made."""
    advice: str

    @classmethod
    def not_made(cls, name: str, why: Exception | str) -> Check:
        """Return what stands for a check that could not be made: its name, and the reason."""
        told = why if isinstance(why, str) else reason(why)
        return cls(name, "not_made", 0.0, f"this check could not be made, so that nothing is known: {told}")


def reason(error: BaseException) -> str:
    """Return an error as one line: its type and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of the verdicts, ``ok`` of none."""
    return max(verdicts, key=VERDICTS.index, default="ok")
