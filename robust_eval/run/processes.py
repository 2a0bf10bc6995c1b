"""Which process of which machine it is, whether it still runs, and whether the machine was out of memory."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

from robust_eval.identity import content_key

__all__ = ["machine", "out_of_memory", "runs", "start_of"]


@cache
def machine() -> str:
    """Return what processes have in common that see one another's numbers: a container is a machine of its own."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            parts.append(
                str(Path(path).readlink()) if path.endswith("pid") else Path(path).read_text(encoding="ascii")
            )
    return content_key({"machine": parts})[:16]


def start_of(pid: int) -> int | None:
    """Return when a process began; ``None`` where that is not told, 0 where it has ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
        return 0 if state == "Z" else int(rest[18])
    except FileNotFoundError:
        return 0 if Path("/proc/self/stat").exists() else None
    except (OSError, ValueError, IndexError):
        return None


def runs(pid: int, started: int | None) -> bool:
    """Whether a process of this machine runs, and is the one that began then."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    now = start_of(pid)
    return now is None or started is None or now == started


def out_of_memory() -> int | None:
    """Return how many processes the system has killed for want of memory; ``None`` where it does not count them."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, StopIteration):
        return None
