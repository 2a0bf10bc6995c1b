"""Tasks of Ray: each looks after workers on the shared run folder, on whatever machine Ray puts it.

Without an address a Ray of this machine alone is started and ended again. A task that is lost with its machine is
started again by Ray (``retries``); what it held is taken over by others in the meantime, and cells that are done stay
done. Part of a GPU (``num_gpus=0.5``) is Ray's word that two tasks share it: their memory is not kept apart.

Weights depend on the number of threads: a task trains with ``num_cpus`` of them, and where that is left out and Ray is
of this machine, with as many as one process would.

Ours: with ``--device cuda`` a task has one GPU unless ``num_gpus`` says otherwise; Ray hides all GPUs from a task that
asks for none. Ray's statistics of use are not sent.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from robust_eval.errors import ConfigError
from robust_eval.printable import printable
from robust_eval.run.engines.charge import Charge, charge_of
from robust_eval.run.engines.options import GIGABYTES, WORD, Kind, count
from robust_eval.run.engines.watched import watched
from robust_eval.run.worker import Job, Outcome, Progress

__all__ = ["OPTIONS", "Ray"]

ANSWER = 5.0
"""Seconds that a cluster is given to answer."""
GRACE = 15.0
"""Seconds that tasks are given to end when they are asked to."""


def _part(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1 and not (number.is_integer() and number <= 1000):
        raise ValueError(text)
    return number


OPTIONS = {
    "address": WORD,
    "memory": GIGABYTES,
    "num_cpus": Kind("0 to 1, or a whole number", _part),
    "num_gpus": Kind("0 to 1, or a whole number", _part),
    "retries": count(0),
}


@dataclass(frozen=True)
class Ray:
    """Starts ``workers`` tasks."""

    workers: int
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)

    def work(self, job: Job, progress: Progress) -> Outcome:
        """Measure the cells of a job and write their records; tasks are cancelled where this is interrupted."""
        if not job.cells:
            return Outcome()
        import ray

        charge = charge_of(job, device=self.device, threads=self.threads())
        with _connected(self.options.get("address")):
            wanted = self.resources()
            for line in _missing(wanted, ray.cluster_resources()):
                if "address" not in self.options:
                    raise ConfigError(f"--engine ray: {line}; give less by --engine-option")
                progress.tell(f"{line} so far: tasks wait until it has more")
            task = ray.remote(max_retries=self.options.get("retries", 3), **wanted)(_work)
            sent, number = ray.put(charge), min(self.workers, len(job.cells))
            tasks = _Tasks([task.remote(sent) for _ in range(number)])
            progress.tell(
                f"started {'1 task' if number == 1 else f'{number} tasks'} on Ray; Ctrl-C ends them"
            )
            return watched(job, progress, tasks)

    def threads(self) -> int | None:
        """Return how many threads train, on which weights depend; ``None`` for what Ray gives a task."""
        if (given := self.options.get("num_cpus")) is not None:
            return max(1, int(given))
        return torch.get_num_threads() if "address" not in self.options else None

    def resources(self) -> dict[str, Any]:
        """Return what a task asks for, as Ray names it."""
        asked = {
            "num_cpus": self.options.get("num_cpus", 1),
            "num_gpus": self.options.get("num_gpus", 1 if self.device.startswith("cuda") else 0),
        }
        if "memory" in self.options:
            asked["memory"] = int(self.options["memory"] * 2**30)
        return asked


def _work(charge: Charge) -> None:
    charge.work()


def _missing(wanted: Mapping[str, Any], there: Mapping[str, float]) -> Iterator[str]:
    """Yield in words what one task asks for and no machine may have."""
    for name, key, unit in (("num_cpus", "CPU", "processors"), ("num_gpus", "GPU", "GPUs")):
        if wanted[name] > (has := there.get(key, 0.0)):
            yield f"a task asks for {wanted[name]:g} {unit}, and Ray has {has:g} here"


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one; raises ``ConfigError`` where none answers."""
    import ray

    if ray.is_initialized():  # the user's own
        yield
        return
    if address is not None:
        _require_answer(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    given: dict[str, Any] = {"address": address}
    if address is None:
        paths = os.pathsep.join(path or os.curdir for path in sys.path)
        given = {
            "address": "local",
            "include_dashboard": False,
            "runtime_env": {"env_vars": {"PYTHONPATH": paths}},
        }
    try:
        with _same_signals():
            ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        said = printable(str(error).strip().partition("\n")[0])
        if address is None:
            raise ConfigError(f"--engine ray: cannot be started here ({said})") from None
        raise ConfigError(
            f"--engine ray: no cluster at {address} that answers ({said}); one that asks for a token takes it from "
            "RAY_AUTH_TOKEN, as Ray has it"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise ``ConfigError`` where nobody listens at an address: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():  # auto, and what Ray may know of besides
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--engine ray: no cluster at {address} ({printable(str(error))})") from None


@contextmanager
def _same_signals() -> Iterator[None]:
    """Leave SIGTERM with whom it was: Ray takes it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Tasks:
    """Tasks that were started."""

    def __init__(self, tasks: Sequence[Any]) -> None:
        self._tasks = list(tasks)

    def alive(self) -> int:
        return len(self._split(0.0)[1])

    def why(self) -> str | None:
        import ray

        for task in self._split(0.0)[0]:
            try:
                ray.get(task)
            except Exception as error:
                return str(error).strip().rpartition("\n")[2] or type(error).__name__
        return None

    def cancel(self) -> int:
        import ray

        alive = self._split(0.0)[1]
        for task in alive:
            with suppress(Exception):
                ray.cancel(task, force=False)
        self._split(GRACE)
        return len(alive)

    def close(self) -> None:
        self._split(GRACE)
        self.cancel()

    def _split(self, timeout: float) -> tuple[list[Any], list[Any]]:
        """Return the tasks that have ended, and the others."""
        import ray

        ended, others = ray.wait(self._tasks, num_returns=len(self._tasks), timeout=timeout)
        return list(ended), list(others)
