"""The clock of a folder, and the one of this process: the first is the same for all who work there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

__all__ = ["CLOCKS", "Clocks", "folder_time"]


def folder_time(folder: Path) -> float:
    """Return the time by the clock of the file system that a folder lies on, in seconds since 1970."""
    probe = folder / f".clock-{os.getpid()}-{uuid4().hex[:8]}"
    try:
        probe.touch(exist_ok=False)
        os.utime(probe)
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


class Clocks(NamedTuple):
    """What tells the time; another in tests."""

    of_folder: Callable[[Path], float] = folder_time
    local: Callable[[], float] = time.monotonic


CLOCKS = Clocks()
