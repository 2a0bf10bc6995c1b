"""A run that is measured elsewhere is told here as if it were measured here."""

import os

import pytest

from robust_eval.errors import MeasurementError
from robust_eval.results.store import Store
from robust_eval.run.deadline import Deadline, OutOfTime
from robust_eval.run.engines import watched as module
from robust_eval.run.engines.watched import watched
from robust_eval.run.leases import Leases
from robust_eval.run.worker import work


class Crew:
    """Jobs that do something at each look, and have ended when they have done all."""

    def __init__(self, *steps, why=None):
        self.steps, self.ended, self.cancelled, self.closed = list(steps), why, 0, False

    def alive(self):
        if self.steps:
            self.steps.pop(0)()
        return 1 + len(self.steps) if self.steps else 0

    def why(self):
        return self.ended

    def cancel(self):
        self.cancelled += 1
        return 2

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", (0.001, 0.001))


def test_what_others_measure_and_fail_in_is_told_once_and_is_of_the_outcome(own_job, seen):
    first, second, *rest = own_job.cells
    crew = Crew(
        lambda: work(own_job._replace(cells=(first,))),
        lambda: None,
        lambda: Store(own_job.folder).fail(second.key, second.labels, "Traceback\nValueError: bad"),
        lambda: work(own_job._replace(cells=tuple(rest))),
    )
    outcome = watched(own_job, seen, crew)
    assert next(cell for cell, _ in seen.of("finish")) == first
    assert {record.key for record in outcome.done} == {cell.key for cell in (first, *rest)}
    assert [failure.error for failure in outcome.failed] == ["ValueError: bad"]
    assert len(seen.of("fail")) == 1 and len(seen.of("finish")) == len(own_job.cells) - 1
    assert crew.closed and not crew.cancelled


def test_a_cell_that_failed_before_the_run_began_is_waited_for(own_job, seen):
    (cell, *_) = own_job.cells
    job = own_job._replace(cells=(cell,))
    Store(job.folder).fail(cell.key, cell.labels, "old")
    note = job.folder / "failed" / f"{cell.key}.json"
    os.utime(note, (1, 1))
    outcome = watched(job, seen, Crew(lambda: None, lambda: work(job)))
    assert not outcome.failed and len(outcome.done) == 1


def test_what_is_in_flight_is_shown_with_its_machine(own_job, seen, monkeypatch):
    cell = own_job.cells[1]
    leases = Leases(own_job.folder)
    crew = Crew(
        lambda: None,
        lambda: leases.claim(cell.key, {"model": "m", "name": "own", "cell": str(cell)}),
        lambda: leases.release(cell.key),
        lambda: None,
        lambda: work(own_job),
    )
    watched(own_job, seen, crew)
    assert seen.of("begin") == [(cell,)]
    stages = [stage for stage, *_ in seen.of("inside")]
    assert stages[0] == "waiting for a job to begin" and stages[1].startswith("on ")
    assert stages[2] == "waiting for a worker"


def test_a_training_is_told_and_that_it_is_done_only_where_there_are_weights(own_job, seen):
    leases, store = Leases(own_job.folder), Store(own_job.folder)

    def end():
        store.checkpoint("a").parent.mkdir(parents=True)
        store.checkpoint("a").touch()
        for name in "ab":
            leases.release(f"{name}-training")

    def begin():
        for name in "ab":
            leases.claim(f"{name}-training", {"model": name, "name": f"model {name}\x1b", "cell": None})

    watched(own_job, seen, Crew(begin, end, lambda: work(own_job)))
    told = [(name, fraction) for name, fraction, _ in seen.of("training")]
    assert told == [("model a\\x1b", 0.0), ("model b\\x1b", 0.0), ("model a\\x1b", 1.0)]


def test_jobs_that_all_end_without_a_record_are_an_error_with_their_last_words(own_job, seen):
    crew = Crew(why="the node went \x1b[1maway")
    with pytest.raises(MeasurementError, match=r"cells were left .*the node went \\x1b\[1maway"):
        watched(own_job, seen, crew)
    crew = Crew(why="robust_eval.errors.ConfigError: device cuda: there are 0 GPUs here")
    with pytest.raises(MeasurementError, match=r"ended: device cuda: there are 0 GPUs here$"):
        watched(own_job, seen, crew)


def test_where_some_were_measured_the_rest_is_told(own_job, seen):
    crew = Crew(lambda: work(own_job._replace(cells=own_job.cells[:1])), why="killed")
    outcome = watched(own_job, seen, crew)
    left = len(own_job.cells) - 1
    assert len(outcome.done) == 1
    assert seen.of("tell") == [(f"{left} cells were left when the last job ended: killed",)]


def test_files_that_are_seen_late_are_waited_for_where_all_jobs_ended_well(own_job, seen):
    looks = []

    class Late(Crew):
        def alive(self):
            looks.append(1)
            if len(looks) == 4:
                work(own_job)
            return 0

    assert len(watched(own_job, seen, Late()).done) == len(own_job.cells)
    with pytest.raises(MeasurementError, match="all jobs ended"):
        watched(own_job._replace(folder=own_job.folder / "none"), seen, Crew(), late=0.0)


def test_an_interrupt_cancels_the_jobs_and_says_so(own_job, seen):
    def interrupt():
        raise KeyboardInterrupt

    crew = Crew(interrupt)
    with pytest.raises(KeyboardInterrupt):
        watched(own_job, seen, crew)
    assert crew.cancelled == 1 and seen.of("tell") == [("2 jobs were cancelled",)]


def test_a_limit_of_time_ends_jobs_that_have_not_even_begun(own_job, seen):
    crew = Crew(*[lambda: None] * 100)
    with pytest.raises(OutOfTime):
        watched(own_job, Deadline(seen, 0.0), crew)
    assert crew.cancelled == 1
