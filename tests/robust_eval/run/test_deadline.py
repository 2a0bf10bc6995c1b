"""A limit of time ends a run between and inside of cells, and keeps what was done."""

from types import SimpleNamespace

import pytest

from robust_eval.run.deadline import Deadline, OutOfTime
from robust_eval.run.worker import SILENT, Progress


@pytest.fixture
def clock(monkeypatch):
    found = SimpleNamespace(now=0.0, monotonic=lambda: found.now)
    monkeypatch.setattr("robust_eval.run.deadline.time", found)
    return found


def test_it_is_a_progress_and_ends_the_run_when_the_time_is_up(clock):
    deadline = Deadline(SILENT, 2.0)
    assert isinstance(deadline, Progress)
    clock.now = 119.9
    deadline.inside("attack", 1, 2)
    deadline.training("net", 0.5, "")
    clock.now = 120.0
    deadline.training("net", 1.0, "")  # what is trained is kept
    for ends in (lambda: deadline.inside("attack", 1, 2), lambda: deadline.training("net", 0.5, "")):
        with pytest.raises(OutOfTime):
            ends()
    assert deadline.outcome.stopped


def test_it_is_no_failure_of_a_cell():
    assert not issubclass(OutOfTime, Exception) and issubclass(OutOfTime, KeyboardInterrupt)
