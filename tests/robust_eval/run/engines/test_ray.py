"""Tasks of Ray: asked for as was said, and their records are those of one process."""

import socket

import pytest
from pandas.testing import assert_frame_equal

import trainers
from robust_eval.errors import ConfigError
from robust_eval.results.store import Store
from robust_eval.run.engines.ray import Ray, _connected, _missing
from robust_eval.run.run import run
from robust_eval.run.worker import SILENT


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tasks_of_a_real_local_ray_write_the_records_of_one_process(tiny, one_process, tmp_path):
    pytest.importorskip("ray")
    store = Store(tmp_path / "tasks")
    given = {"train": trainers.train, "progress": SILENT, "modules": ("defenses", "trainers")}
    outcome = run(tiny, store, engine=Ray(1, "cpu"), **given)
    assert not outcome.failed and len(outcome.done) == len(tiny)
    for cell in tiny:
        here, there = one_process.read(cell.key), store.read(cell.key)
        assert_frame_equal(here.rows, there.rows)
        assert (here.summary, here.checks, here.labels) == (there.summary, there.checks, there.labels)
        assert here.provenance["weights_sha256"] == there.provenance["weights_sha256"]


def test_a_task_asks_for_what_was_said():
    asked = Ray(2, "cuda", {"num_gpus": 0.5, "num_cpus": 2.0, "memory": 1.5}).resources()
    assert asked == {"num_cpus": 2.0, "num_gpus": 0.5, "memory": 3 * 2**29}
    assert Ray(2, "cuda").resources() == {"num_cpus": 1, "num_gpus": 1}
    assert Ray(2, "auto").resources() == {"num_cpus": 1, "num_gpus": 0}


def test_weights_depend_on_threads_which_are_those_of_one_process_unless_said(threads):
    assert Ray(2).threads() == threads
    assert Ray(2, options={"num_cpus": 3.0}).threads() == 3
    assert Ray(2, options={"num_cpus": 0.5}).threads() == 1
    assert Ray(2, options={"address": "auto"}).threads() is None


def test_what_no_cluster_has_is_told():
    there = {"CPU": 4.0, "GPU": 1.0}
    assert not list(_missing({"num_cpus": 4, "num_gpus": 0.5}, there))
    (line,) = _missing({"num_cpus": 4, "num_gpus": 2}, there)
    assert line == "a task asks for 2 GPUs, and Ray has 1 here"


def test_an_address_at_which_nobody_listens_is_told_at_once():
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound, and not listened at
        with (
            pytest.raises(ConfigError, match=rf"no cluster at ray://127\.0\.0\.1:{port}"),
            _connected(f"ray://127.0.0.1:{port}"),
        ):
            pytest.fail("connected")
