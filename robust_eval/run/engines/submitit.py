"""Jobs of a SLURM array, through submitit: each looks after workers on the shared run folder.

A job that is preempted, or comes to its limit of time, is put into the queue again by submitit's hook: it first ends
its workers, which give back what they hold, so that others take it at once and nobody counts it as a cell that kills.
What is finished is kept, and a training goes on from its last pass; a cell begins anew, so one that takes longer than
``time`` is never done.

Where SIGTERM comes alone, from ``scancel`` or before a preemption, workers end too; the job then waits for what SLURM
makes of it, since one that ends by itself would not be queued again.

Ours: 4 hours, and 24 times to be queued again after the limit. submitit has 5 minutes and 3 times, for one function
that is to end; preemptions are not counted, as there.
"""

from __future__ import annotations

import io
import logging
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from typing import Any, NoReturn

from robust_eval.errors import ConfigError
from robust_eval.printable import printable
from robust_eval.run.engines.charge import Charge, charge_of, end_workers
from robust_eval.run.engines.options import GIGABYTES, MINUTES, WORD, Kind, count
from robust_eval.run.engines.watched import watched
from robust_eval.run.worker import Job, Outcome, Progress

__all__ = ["FOLDER", "OPTIONS", "Submitit", "Work", "require_cluster"]

FOLDER = "jobs"
"""Where in the run folder jobs are described and write their logs."""
OPTIONS = {
    "account": WORD,
    "cluster": Kind(
        "slurm or local", lambda text: {"slurm": "slurm", "local": "local"}.get(text) or _refuse()
    ),
    "constraint": WORD,
    "cpus": count(1),
    "gpus": count(0),
    "memory": GIGABYTES,
    "partition": WORD,
    "qos": WORD,
    "requeues": count(0),
    "time": MINUTES,
}
HELD = 120.0
"""Seconds that a job which was asked to end waits for SLURM to end it; that is less patient by default."""
GRACE = 10.0
"""Seconds that jobs are given to end by themselves once nothing is left."""


def _refuse() -> NoReturn:
    raise ValueError


class _Asked(KeyboardInterrupt):
    """SIGTERM."""


@dataclass(frozen=True)
class Work:
    """What a job calls. It is asked for a ``checkpoint`` before it is put into the queue again."""

    charge: Charge

    def __call__(self) -> None:
        """Look after workers until nothing is left."""
        signal.signal(signal.SIGTERM, _end)
        try:
            self.charge.work()
        except _Asked:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(HELD)
            raise

    def checkpoint(self) -> Any:
        """Give back what the workers hold, and return what the job does when its turn comes again."""
        from submitit.helpers import DelayedSubmission

        end_workers(self.charge.run)
        return DelayedSubmission(self)


def _end(*_: object) -> NoReturn:
    raise _Asked


def require_cluster(options: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` where jobs cannot be submitted here."""
    if options.get("cluster") != "local" and (shutil.which("sbatch") is None or shutil.which("srun") is None):
        raise ConfigError(
            "--engine submitit: no SLURM here (sbatch and srun are not on the PATH): start it on a login node, or try "
            "it with --engine-option cluster=local"
        )


@dataclass(frozen=True)
class Submitit:
    """Submits ``workers`` jobs."""

    workers: int
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    detach: bool = False
    """Whether it ends when the jobs are submitted."""

    def work(self, job: Job, progress: Progress) -> Outcome:
        """Measure the cells of a job and write their records; jobs are cancelled where this is interrupted."""
        if not job.cells:
            return Outcome()
        charge = charge_of(job, device=self.device, threads=self.options.get("cpus"))
        jobs = _submitted(self, Work(charge), min(self.workers, len(job.cells)))
        number = jobs[0].job_id.partition("_")[0]
        which = f"job {number}" if len(jobs) == 1 else f"{len(jobs)} jobs, {number} the first"
        then = "status tells how far it is" if self.detach else "Ctrl-C cancels them"
        progress.tell(f"submitted {which}; logs: {job.folder / FOLDER}; {then}")
        if self.detach:
            return Outcome()
        return watched(job, progress, _Jobs(jobs, of_slurm=self.options.get("cluster") != "local"))

    def parameters(self) -> dict[str, Any]:
        """Return the options as submitit names them."""
        given = self.options
        of_slurm = ("account", "constraint", "partition", "qos")
        named: dict[str, Any] = {f"slurm_{name}": given[name] for name in of_slurm if name in given}
        return named | {
            "name": "robust-eval",
            "timeout_min": given.get("time", 240),
            "mem_gb": given.get("memory"),
            "cpus_per_task": given.get("cpus"),
            "gpus_per_node": given.get("gpus", 1 if self.device.startswith("cuda") else None),
            "slurm_array_parallelism": self.workers,
        }


def _submitted(engine: Submitit, work: Work, number: int) -> list[Any]:
    """Submit so many jobs as one array; raises ``ConfigError`` where SLURM refuses."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    folder = work.charge.run / FOLDER
    if "%" in str(folder):
        raise ConfigError(f"--out: expected a path without %, which SLURM has a use for, got {folder}")
    logging.getLogger("submitit").setLevel(logging.ERROR)
    cluster = engine.options.get("cluster", "slurm")
    executor = submitit.AutoExecutor(
        folder=folder, cluster=cluster, slurm_max_num_timeout=engine.options.get("requeues", 24)
    )
    executor.update_parameters(**engine.parameters())
    before = set(folder.iterdir()) if folder.exists() else set()
    try:
        with redirect_stderr(io.StringIO()):  # what sbatch says is in the error
            return list(executor.submit_array([work] * number))
    except (FailedJobError, FailedSubmissionError) as error:
        for path in set(folder.iterdir()) - before:
            path.unlink()
        said = " ".join(str(error).split()) or "it said nothing"
        raise ConfigError(f"--engine submitit: sbatch refused: {printable(said)}") from None


class _Jobs:
    """Jobs that were submitted."""

    def __init__(self, jobs: Sequence[Any], *, of_slurm: bool) -> None:
        self._jobs, self._of_slurm = jobs, of_slurm

    def alive(self) -> int:
        return len(self._alive())

    def why(self) -> str | None:
        for job in self._jobs:
            if not job.done():
                continue
            if job.paths.result_pickle.exists() and job.exception() is None:
                continue
            return f"{_last_line(job) or job.state}; {job.paths.stderr}"
        return None

    def cancel(self) -> int:
        alive = self._alive()
        if alive and self._of_slurm:  # one command, however many there are
            subprocess.run(["scancel", *(job.job_id for job in alive)], check=False, capture_output=True)
        elif alive:
            for job in alive:
                job.cancel()
        for job in self._jobs:
            for path in (job.paths.submitted_pickle, job.paths.result_pickle):
                path.unlink(missing_ok=True)
        return len(alive)

    def close(self) -> None:
        until = time.monotonic() + GRACE
        while self._alive() and time.monotonic() < until:
            time.sleep(0.1)
        self.cancel()  # those that wait in the queue for a turn they do not need any more

    def _alive(self) -> list[Any]:
        return [job for job in self._jobs if not job.done()]


def _last_line(job: Any) -> str:
    """Return the last line of the log of a job's errors."""
    try:
        text = job.paths.stderr.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return str(text.strip().rpartition("\n")[2])
