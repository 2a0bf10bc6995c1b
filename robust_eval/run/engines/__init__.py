"""Where the cells of a run are computed: an engine starts workers, and each takes what none of the others has."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from robust_eval.run.worker import Job, Outcome, Progress, work

__all__ = ["IN_PROCESS", "Engine"]


@runtime_checkable
class Engine(Protocol):
    """Starts workers on a job, tells how they get on, and ends them where it is interrupted."""

    def work(self, job: Job, progress: Progress) -> Outcome:
        """Measure the cells of a job and write their records."""


class _InProcess:
    """Computes in this process."""

    def work(self, job: Job, progress: Progress) -> Outcome:
        """Measure the cells of a job and write their records."""
        return work(job, progress)


IN_PROCESS: Engine = _InProcess()
