"""The status of a run is what lies in its folder, and says no more than is known."""

import json
import os
import subprocess
import sys

import pytest

from robust_eval.cli.status import lines
from robust_eval.errors import DataError
from robust_eval.results.planned import PLANNED
from robust_eval.results.store import Store
from robust_eval.run.leases import Leases
from robust_eval.run.status import as_line, status

BEGAN = 1_000_000.0


def labels(name, **changes):
    words = {
        "model": "net",
        "defense": "none",
        "access": "none",
        "data": "digits",
        "family": "attack",
        "norm": "linf",
    }
    return {**words, "perturbation": name, "model_key": "m", **changes}


@pytest.fixture
def run(tmp_path):
    """A run of ten cells that has just begun."""
    cells = [{"key": f"{i:064x}", "labels": labels(f"pgd{i}")} for i in range(10)]
    (tmp_path / PLANNED).write_text(json.dumps({"cells": cells}))
    os.utime(tmp_path / PLANNED, (BEGAN, BEGAN))
    return tmp_path


def write(run, *numbers, at=BEGAN + 10):
    for i in numbers:
        path = run / "records" / f"{i:064x}"[:2] / f"{i:064x}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (at, at))


def test_each_cell_is_counted_once(run):
    write(run, 0, 1, 2)
    write(run, 99)  # of an earlier plan
    store, leases = Store(run), Leases(run)
    store.fail(f"{3:064x}", labels("pgd3"), "Traceback\nValueError: <script> is wrong")
    store.fail(f"{0:064x}", labels("pgd0"), "failed once, and has a record by now")
    leases.claim(f"{4:064x}", {"model": "m", "name": "net", "cell": "net · pgd4"})
    found = status(run)
    assert (found.total, found.done, len(found.in_flight), len(found.failed), found.waiting) == (
        10,
        3,
        1,
        1,
        5,
    )
    assert found.failed[0].error == "ValueError: <script> is wrong"
    assert (found.in_flight[0].cell, found.in_flight[0].pid) == ("net · pgd4", os.getpid())
    assert not found.is_over


def test_what_failed_before_the_run_began_is_waiting_for_its_next_try(run):
    Store(run).fail(f"{3:064x}", labels("pgd3"), "error")
    path = run / "failed" / f"{3:064x}.json"
    os.utime(path, (BEGAN - 1, BEGAN - 1))
    assert (status(run).waiting, status(run).failed) == (10, ())


def test_cells_that_wait_for_a_training_are_told_apart(run):
    Leases(run).claim("recipe-training", {"model": "m", "name": "mixup", "cell": None})
    found = status(run)
    assert (found.for_training, found.waiting, found.in_flight[0].cell) == (10, 10, "training mixup")
    assert "10 waiting (10 for a training)" in lines(found)[0]


def test_the_time_left_goes_on_as_it_went(run, monkeypatch):
    write(run, 0, 1, 2, 3)
    Leases(run).claim(f"{4:064x}", {"cell": "net · pgd4"})
    monkeypatch.setattr("robust_eval.run.status.folder_time", lambda folder: BEGAN + 40)
    assert status(run).seconds_left == 60  # 6 cells at 10 seconds each
    assert lines(status(run))[0].endswith("; about 60 s left")


def test_without_anybody_at_work_no_time_is_told_but_who_goes_on(run):
    write(run, 0, 1, 2, 3)
    found = status(run)
    assert found.seconds_left is None and "nobody works on it: robust-eval work RUN" in lines(found)[0]


def test_a_finished_run_is_over_and_a_worker_that_ended_is_told(run):
    write(run, *range(9))
    leases = Leases(run)
    leases.claim(f"{9:064x}", {"cell": "net · pgd9"})
    path = leases.folder / f"{9:064x}"
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": 1}))
    assert "its process has ended" in lines(status(run))[1]
    leases.drop(leases.found()[0])
    write(run, 9)
    assert status(run).is_over and lines(status(run)) == [
        "10 of 10 cells done, 0 in flight, 0 waiting, 0 failed"
    ]


def test_the_json_holds_all_of_it(run):
    write(run, 0)
    found = json.loads(as_line(status(run)))
    assert (found["done"], found["waiting"], found["over"], found["in_flight"]) == (1, 9, False, [])


def test_what_others_wrote_cannot_act_on_the_terminal(run):
    Leases(run).claim(f"{4:064x}", {"cell": "evil\x1b[2J\nline", "model": ["x"]})
    Store(run).fail(f"{3:064x}", labels("p"), "bad\x1b[2J")
    assert all("\x1b" not in line and "\n" not in line for line in lines(status(run)))


def test_a_folder_without_a_plan_is_refused_in_a_line(tmp_path):
    with pytest.raises(DataError, match=r"expected a run folder with planned\.json"):
        status(tmp_path)


def test_it_loads_no_torch():
    code = "import sys, robust_eval.cli.status, robust_eval.run.status; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
