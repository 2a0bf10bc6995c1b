"""What a job of a cluster does, wherever it begins: it looks after workers of its own, one for each of its GPUs.

The job itself measures nothing: its workers are processes as those of :mod:`.local`, so that a cell which ends its
process is tried again with half the images, and the job goes on.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from robust_eval.machine import pick_device
from robust_eval.printable import printable
from robust_eval.results.cell import Cell
from robust_eval.results.record import Record
from robust_eval.run.engines.local import Local, visible_gpus
from robust_eval.run.leases import Leases
from robust_eval.run.worker import Failure, Job, unpacked

__all__ = ["Charge", "charge_of", "end_workers"]

GRACE = 10.0
"""Seconds that workers are given to give back what they hold."""


@dataclass(frozen=True)
class Charge:
    """All that a job needs, as plain data."""

    data: bytes
    """A packed job."""
    run: Path
    device: str
    """As the user named it: which there are is known where the job runs."""
    threads: int | None
    """To train with; ``None`` for as many as torch takes there."""
    cwd: str
    path: tuple[str, ...]
    """Where modules of the user's are looked for."""

    def work(self) -> None:
        """Look after workers until nothing is left to take; all of them end where this is interrupted."""
        with suppress(OSError):
            os.chdir(self.cwd)
        sys.path += [place for place in self.path if place not in sys.path]
        job = unpacked(self.data)
        device = pick_device(self.device)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        gpus = visible_gpus(device)
        workers = max(1, len(gpus))
        there = job._replace(options=job.options._replace(device=device))
        Local(workers, max(1, torch.get_num_threads() // workers), gpus).work(there, _Log())


def charge_of(job: Job, *, device: str, threads: int | None) -> Charge:
    """Return what a job on a cluster is sent; raises ``DataError`` for cells that cannot be."""
    run = job.folder.absolute()
    places = tuple(str(Path(place).absolute()) for place in sys.path)
    return Charge(job._replace(folder=run).packed(), run, device, threads, str(Path.cwd()), places)


def end_workers(run: Path, *, within: float = GRACE) -> None:
    """End the workers that this process looks after, so that they give back what they hold."""
    leases, until = Leases(run), time.monotonic() + within
    while time.monotonic() < until:
        pids = {lease.pid for lease in leases.found() if lease.is_here and lease.parent == os.getpid()}
        if not pids:
            return
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)


class _Log:
    """Writes what a job does into its log."""

    def start(self, total: int, found: int) -> None:
        """Say nothing: no run begins here."""

    def tell(self, line: str) -> None:
        _print(line)

    def training(self, name: str, fraction: float, text: str) -> None:
        if fraction >= 1:
            _print(f"trained {name}: {text}")

    def begin(self, cell: Cell) -> None:
        """Say nothing: what is done is said."""

    def inside(self, stage: str, done: int, of: int | None) -> None:
        """Say nothing."""

    def finish(self, cell: Cell, record: Record) -> None:
        _print(f"{cell}: done")

    def fail(self, failure: Failure) -> None:
        _print(f"{failure.cell}: failed: {failure.error}")


def _print(line: str) -> None:
    print(printable(line), flush=True)
