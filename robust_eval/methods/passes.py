"""What a method costs, in passes through the network."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FEW", "Passes", "walk"]

FEW = 4
"""Forward passes outside a walk: at its ends, for the candidates, to confirm."""


class Passes(NamedTuple):
    """Passes through the network for one image, at most."""

    forwards: int
    backwards: int

    def times(self, count: int) -> Passes:
        """Return the passes of so many walks."""
        return Passes(self.forwards * count, self.backwards * count)

    def and_(self, other: Passes) -> Passes:
        """Return the passes of both."""
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)


def walk(steps: int, *, columns: int = 1, forwards: int = 1) -> Passes:
    """A gradient in so many columns at each step, and forward passes beside it: one confirms what is proposed."""
    return Passes(steps * (1 + forwards) + FEW, steps * columns)
