"""The processors that this process may use, and whether others are using them.

The threads of OpenMP, which torch computes with, wait for one another by spinning. On processors that are taken by
somebody else the spinning keeps away the thread that is waited for: many small operations then take 30 to 60 times as
long. Nothing here loads torch, which reads the settings of OpenMP once, when it is loaded.
"""

from __future__ import annotations

import logging
import math
import os
from functools import cache
from pathlib import Path

__all__ = ["SPINS", "be_considerate", "crowded", "load", "share", "warn_once"]

SPINS = 2000  # some microseconds: about a small operation's time
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
RUNNING = Path("/proc/loadavg")


def be_considerate() -> None:
    """Have OpenMP's threads soon sleep where they wait, and be no more than the share of this process.

    Threads that sleep at once take twice the time to train a small network; GNU's OpenMP lets them spin a little first.
    What the user has set stays. Processes that are started later inherit it. To be called before torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    if share() < _allowed():
        os.environ.setdefault("OMP_NUM_THREADS", str(share()))


def share() -> int:
    """Return how many processors' time this process may use: those it may run on, or less by its cgroup's quota."""
    return max(1, math.ceil(min(_allowed(), _quota())))


def load() -> float:
    """Return how many threads of the whole machine want a processor, without the one that asks.

    It is high only where it has been so over the last minute and still is: what has just ended does not count.
    """
    try:
        over_a_minute = os.getloadavg()[0]
    except (OSError, AttributeError):  # not every system counts them
        return 0.0
    try:
        running = int(RUNNING.read_text(encoding="ascii").split()[3].partition("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return over_a_minute
    return min(over_a_minute, float(running))


def crowded(threads: int) -> str | None:
    """Return in one line that so many threads of ours are too many here, and what helps; ``None`` if they are not."""
    if threads > share() < _allowed():
        return (
            f"{threads} threads on a share of {_counted(share())}: they wait for one another; "
            f"set OMP_NUM_THREADS={share()} before torch is loaded, or torch.set_num_threads({share()})"
        )
    processors, taken = os.cpu_count() or 1, load()
    if taken + threads <= processors + 0.5:
        return None
    line = f"others use this machine: {taken:.1f} of {_counted(processors)} are taken"
    if threads == 1 or os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        return f"{line}; expect longer times than are estimated"
    return f"{line}, and {threads} threads would spin; set OMP_WAIT_POLICY=PASSIVE before torch is loaded"


@cache
def warn_once() -> None:
    """Log in one line, once in a process, that threads of torch would spin on a machine that others use."""
    import torch

    spins = os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE"
    if spins and (line := crowded(torch.get_num_threads())) is not None:
        logging.getLogger("robust_eval").warning(line)


def _counted(processors: int) -> str:
    return "1 processor" if processors == 1 else f"{processors} processors"


def _allowed() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Linux alone tells
        return os.cpu_count() or 1


def _quota() -> float:
    """The least that this cgroup and those above it may use, in processors."""
    return min((quota for folder in _cgroups() if (quota := _quota_of(folder)) is not None), default=math.inf)


def _cgroups() -> list[Path]:
    """The folders of this process's cgroups, of either version, with all above them."""
    try:
        lines = OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    found = [CGROUPS, CGROUPS / "cpu", CGROUPS / "cpu,cpuacct"]
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        top = CGROUPS / controllers
        own = top / path.lstrip("/")
        found += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return found


def _quota_of(folder: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((folder / name).read_text(encoding="ascii") for name in names).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # there is none, or "max"
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
