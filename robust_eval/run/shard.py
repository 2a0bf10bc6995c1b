"""One of several parts of a run that share nothing, for whatever starts jobs by numbers: every n-th cell by its key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from robust_eval.errors import ConfigError
from robust_eval.results.cell import Cell

__all__ = ["Shard", "as_shard"]


class Shard(NamedTuple):
    """Part ``number`` of so many, counted from 1."""

    number: int
    parts: int

    def of(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells of this part: a cell is of one part, whatever else is in the run."""
        return [cell for cell in cells if int(cell.key[:15], 16) % self.parts == self.number - 1]


def as_shard(text: str) -> Shard:
    """Return the part that a text such as ``3/8`` names; raises ``ConfigError`` for another text."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    shard = Shard(*map(int, found.groups())) if found else None
    if shard is None or not 1 <= shard.number <= shard.parts:
        raise ConfigError(
            f"--shard: expected I/N with I from 1 to N, got {text!r}; the parts of 8 are 1/8 to 8/8"
        )
    return shard
