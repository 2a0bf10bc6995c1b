"""Several processes on this machine: each takes the cells that nobody else has, with its part of the processors.

Where there are several GPUs they are dealt out in turn. A process that ends in working on a cell is replaced, and the
cell tried once more: with half the images at a time where memory may have been the reason, as after an ``os._exit``, a
segmentation fault, or a SIGKILL while the system was short of memory. After a SIGKILL of somebody's it is tried as it
was, so that its record is the same. The second that ends in it makes it a failed cell.

Processors round by how many of them share a sum. What is measured of given weights came out equal bit for bit with one
thread and with two (72 cells of the quickstart), weights did not: so models are trained with as many threads as one
process alone would take, and measured with each process's part.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robust_eval.errors import MeasurementError, RobustEvalError
from robust_eval.results.cell import Cell
from robust_eval.results.store import Store
from robust_eval.run.leases import Leases
from robust_eval.run.processes import out_of_memory
from robust_eval.run.worker import Failure, Job, Outcome, Progress, settle

__all__ = ["Local", "visible_gpus"]

GRACE = 15.0
"""Seconds that workers are given to end when they are asked to."""
BARREN = 3
"""Workers in a row that may end before they have taken anything."""
SHOWN = 2.0
"""Seconds for which one of the cells in flight is shown before another is."""


class _Refused(RobustEvalError):
    """What a worker was refused, in its own words."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


def visible_gpus(device: str) -> tuple[str, ...]:
    """Return the GPUs to deal out, as CUDA names them; none where one was asked for, or there is one alone."""
    if device != "cuda" or (count := torch.cuda.device_count()) < 2:
        return ()
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(visible[:count] or map(str, range(count)))


class Local(NamedTuple):
    """Starts ``workers`` processes on this machine."""

    workers: int
    threads: int
    """Of each process."""
    gpus: tuple[str, ...] = ()
    """What CUDA_VISIBLE_DEVICES is for the first worker, the second, and so on in turn; where empty, as it is."""

    def work(self, job: Job, progress: Progress) -> Outcome:
        """Measure the cells of a job and write their records; all workers end where this is interrupted."""
        if not job.cells:
            return Outcome()
        data = job._replace(parent=os.getpid(), training_threads=torch.get_num_threads()).packed()
        crew = _Crew(self, data, job)
        heard = _Heard(job, progress)
        with crew.at_work(min(self.workers, len(job.cells))):
            while crew.workers:
                worker, message = crew.heard()
                if worker is None:
                    continue
                if message is not None:
                    heard.take(worker.number, message)
                else:
                    heard.forget(worker.number)
                    crew.replace(worker)
        return heard.outcome()


@dataclass(eq=False)
class _Worker:
    """A process, and what is known of it."""

    number: int
    process: subprocess.Popen[bytes]
    short: int | None
    """How many processes the system had killed for want of memory when it began."""
    took: bool = False
    """Whether it has taken anything."""
    refused: _Refused | None = None


class _Crew:
    """The processes that work."""

    def __init__(self, engine: Local, data: bytes, job: Job) -> None:
        self._engine, self._data, self._job = engine, data, job
        self._leases = Leases(job.folder)
        self._inbox: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self._barren = 0
        self.workers: list[_Worker] = []

    @contextmanager
    def at_work(self, count: int) -> Iterator[None]:
        """Start so many workers; on leaving, none is left."""
        try:
            for number in range(count):
                self._start(number)
            yield
        finally:
            self._end()

    def heard(self) -> tuple[_Worker | None, dict[str, Any] | None]:
        """Return the next message of a worker, ``None`` where it has ended; of nobody where there is none yet."""
        try:
            worker, message = self._inbox.get(timeout=0.2)
        except queue.Empty:
            return None, None
        if message is not None and message.get("event") == "refused":
            worker.refused = _Refused(str(message["message"]), int(message["code"]))
        worker.took |= message is not None and message.get("event") in ("begin", "training")
        return worker, message

    def replace(self, worker: _Worker) -> None:
        """Start another in the place of a worker that has ended, unless it had finished.

        Raises what it was refused, and ``MeasurementError`` where workers end before they take anything.
        """
        code = worker.process.wait()
        self.workers.remove(worker)
        if worker.refused is not None:
            raise worker.refused
        if code == 0:
            return
        why, less_memory = _gone(code, worker.short)
        for lease in self._leases.found():
            if lease.is_here and lease.pid == worker.process.pid:
                worker.took = True
                self._leases.note_end(lease, why, less_memory=less_memory)
        self._barren = 0 if worker.took else self._barren + 1
        if self._barren >= BARREN:
            raise MeasurementError(
                f"{BARREN} workers in a row ended before they took a cell, the last with {why}; "
                "run without --workers to see why"
            )
        self._start(worker.number)

    def _start(self, number: int) -> None:
        process = subprocess.Popen(
            # not from the current folder, where a file may be called like a module of ours
            [sys.executable, "-P", "-m", "robust_eval.run.engines.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment(number),
            start_new_session=True,  # Ctrl-C is for the parent, which ends the workers in order
        )
        worker = _Worker(number, process, out_of_memory())
        self.workers.append(worker)
        thread = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _environment(self, number: int) -> dict[str, str]:
        threads = str(self._engine.threads)
        own = {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        own |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if gpus := self._engine.gpus:
            own["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        return {**os.environ, **own}

    def _listen(self, worker: _Worker) -> None:
        """Send a worker its job, and take in what it tells until it ends."""
        to, back = worker.process.stdin, worker.process.stdout
        assert to is not None and back is not None
        with suppress(OSError):  # it may be gone already
            to.write(len(self._data).to_bytes(8, "big") + self._data)
            to.flush()
        with back:
            for line in back:
                with suppress(ValueError):  # half a line of one that was killed
                    self._inbox.put((worker, json.loads(line)))
        with suppress(OSError):
            to.close()
        self._inbox.put((worker, None))

    def _end(self) -> None:
        """End all workers: asked first, then killed; what the killed ones held is given back."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        until = time.monotonic() + GRACE
        for worker in self.workers:
            try:
                worker.process.wait(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        pids = {worker.process.pid for worker in self.workers}
        for lease in self._leases.found():
            if lease.is_here and lease.pid in pids:
                self._leases.drop(lease)
        for thread in self._threads:
            thread.join(timeout=1.0)
        self.workers.clear()


class _Heard:
    """What all workers tell, told in one place."""

    def __init__(self, job: Job, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self._store, self._progress, self._now = Store(job.folder), progress, now
        self._cells = {cell.key: cell for cell in job.cells}
        self._at: dict[int, Cell] = {}
        """By the number of a worker, the cell that it measures."""
        self._shown: int | None = None
        self._since = 0.0
        self._outcome = Outcome()

    def take(self, number: int, message: dict[str, Any]) -> None:
        """Take in a message of the worker of this number."""
        event = message["event"]
        if event == "tell":
            self._progress.tell(str(message["line"]))
        elif event == "training":
            self._progress.training(str(message["name"]), float(message["fraction"]), str(message["text"]))
        elif event == "begin":
            if (cell := self._cells.get(message["key"])) is not None:  # else another was as fast
                self._at[number] = cell
                self._show(number)
        elif event == "inside" and number in self._at:
            if self._show(number):
                self._progress.inside(str(message["stage"]), int(message["done"]), message["of"])
        elif event in ("finish", "fail"):
            cell = self._cells.pop(message["key"], None)
            self.forget(number)
            if cell is None:
                return
            if event == "fail":
                failure = Failure(cell, str(message["error"]), str(message["trace"]))
                self._outcome.failed.append(failure)
                self._progress.fail(failure)
            else:
                record = self._store.read(cell.key)
                self._outcome.done.append(record)
                self._progress.finish(cell, record)

    def forget(self, number: int) -> None:
        """Forget what a worker was at."""
        self._at.pop(number, None)
        if self._shown == number:
            self._shown = None

    def outcome(self) -> Outcome:
        """Return what was done, with the cells that processes of others have measured in the meantime."""
        for key, cell in list(self._cells.items()):
            if self._store.has(key) or self._store.failed_at(key):
                del self._cells[key]
                settle(self._store, cell, self._outcome, self._progress)
        return self._outcome

    def _show(self, number: int) -> bool:
        """Show what one worker is at, one after the other; whether it is this one."""
        if self._shown not in (None, number) and self._now() - self._since < SHOWN:
            return False
        if self._shown != number:
            self._shown, self._since = number, self._now()
            self._progress.begin(self._at[number])
        return True


def _gone(code: int, short: int | None) -> tuple[str, bool]:
    """Return in words how a worker has ended, and whether memory may have been the reason.

    ``short`` is how many processes the system had killed for want of memory before.
    """
    if code >= 0:
        return f"exit code {code}", True
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    now = out_of_memory()
    if short is not None and now is not None and now > short:
        return f"{name} while the system was out of memory", True
    return name, name != "SIGKILL" or now is None
