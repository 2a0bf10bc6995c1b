"""A lease as it was found, and what is known of its holder."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from robust_eval.printable import printable
from robust_eval.run.processes import machine, out_of_memory, runs

__all__ = ["LONGEST", "Lease", "as_lease"]

LONGEST = 200
"""Characters of what others wrote that are shown."""


class Lease(NamedTuple):
    """A lease as it was found."""

    name: str
    what: dict[str, Any]
    """What its holder works on, in words."""
    machine: str
    host: str
    pid: int
    started: int | None
    """When the holder's process began, in ticks of its machine: a number of a process is used again."""
    token: str
    since: float
    """When it was claimed, by the folder's clock."""
    touched: float
    memory: int | None = None
    """How many processes that machine had killed for want of memory by then."""
    parent: int | None = None
    """The process that looks after the holder, and notes how it ended."""

    @property
    def is_here(self) -> bool:
        """Whether its holder is a process of this machine."""
        return self.machine == machine()

    @property
    def is_gone(self) -> bool:
        """Whether its holder was a process of this machine that has ended."""
        if not self.is_here or runs(self.pid, self.started):
            return False
        return self.parent is None or self.parent == os.getpid() or not runs(self.parent, None)

    @property
    def is_short(self) -> bool:
        """Whether memory may have been why its holder ended; of another machine that is not known, and may be."""
        return not self.is_here or (self.memory is not None and self.memory < (out_of_memory() or 0))

    @property
    def end(self) -> str:
        """How its holder ended, in words."""
        if not self.is_here:
            return f"process {self.pid} on {self.host} was not heard of any more"
        short = ", and the system was out of memory" if self.is_short else ""
        return f"process {self.pid} on {self.host} ended{short}"


def as_lease(name: str, text: bytes, touched: float) -> Lease:
    """Return what a lease's file says; of nobody known where it is not written yet, or spoilt."""
    try:
        found = json.loads(text)
        return Lease(
            name,
            dict(found["what"]),
            str(found["machine"]),
            printable(str(found["host"]))[:LONGEST],
            int(found["pid"]),
            None if found["started"] is None else int(found["started"]),
            str(found["token"]),
            float(found["since"]),
            touched,
            *(None if (number := found.get(key)) is None else int(number) for key in ("memory", "parent")),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return Lease(name, {}, "", "unknown", 0, None, "", touched, touched)
