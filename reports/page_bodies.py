"""The kinds of body that only the page has: it has the room, and a reader who may search it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from reports.tables import Comparison
from robust_eval.findings import Verdict

__all__ = ["Asked", "Commands", "Measured", "PageOnly", "Profile", "Profiles", "Whole"]


class PageOnly:
    """A body that Markdown and LaTeX leave out."""


@dataclass(frozen=True)
class Whole(PageOnly):
    """A comparison in one table, however wide it is."""

    table: Comparison


@dataclass(frozen=True)
class Commands(PageOnly):
    """Commands to be copied, one line each, below what they do."""

    lines: tuple[tuple[str, str], ...]


class Asked(NamedTuple):
    """One check of a model, in words."""

    name: str
    verdict: Verdict
    says: str
    """When it warns or fails; empty where nobody knows."""
    found: str
    """What its figure was, with the worst of several first."""
    advice: str
    """What to do about it; empty where it is content."""


class Measured(NamedTuple):
    """One number of a model."""

    what: str
    access: str
    short: str
    interval: str
    verdict: Verdict
    mark: str


class Profile(NamedTuple):
    """All there is to say of one model, or of one behind a defense."""

    model: str
    defense: str
    data: str
    verdict: str
    """What the checks say of it, as a class of style: ``passed``, ``unsure`` or a verdict."""
    words: str
    checks: tuple[Asked, ...]
    passed: tuple[Asked, ...]
    """Checks that are content."""
    examined: str
    numbers: tuple[Measured, ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The model, and the defense if there is one."""
        return self.model if self.defense == "none" else f"{self.model} behind {self.defense}"


@dataclass(frozen=True)
class Profiles(PageOnly):
    """Models one after the other."""

    lines: tuple[Profile, ...]

    @property
    def several_data(self) -> bool:
        """Whether they have to say on which data."""
        return len({line.data for line in self.lines}) > 1
