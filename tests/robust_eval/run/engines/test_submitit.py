"""Jobs of SLURM: asked for as was said, cancelled together, and their records are those of one process."""

import json
import os
import subprocess
import time

import pytest
from pandas.testing import assert_frame_equal

import trainers
from robust_eval.errors import ConfigError
from robust_eval.results.store import Store
from robust_eval.run.engines.charge import charge_of, end_workers
from robust_eval.run.engines.submitit import Submitit, Work, require_cluster
from robust_eval.run.processes import machine, start_of
from robust_eval.run.run import run
from robust_eval.run.worker import SILENT

submitit = pytest.importorskip("submitit")


@pytest.mark.slow
def test_jobs_of_submitits_local_executor_write_the_records_of_one_process(
    tiny, one_process, tmp_path, threads, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    store = Store(tmp_path / "jobs")
    engine = Submitit(1, "cpu", {"cluster": "local", "cpus": threads})
    given = {"train": trainers.train, "progress": SILENT, "modules": ("defenses", "trainers")}
    outcome = run(tiny, store, engine=engine, **given)
    assert not outcome.failed and len(outcome.done) == len(tiny)
    for cell in tiny:
        here, there = one_process.read(cell.key), store.read(cell.key)
        assert_frame_equal(here.rows, there.rows)
        assert (here.summary, here.checks, here.labels) == (there.summary, there.checks, there.labels)
        assert here.provenance["weights_sha256"] == there.provenance["weights_sha256"]
    assert not list((store.folder / "jobs").glob("*.pkl")) and not (store.folder / "leases").exists()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands called as SLURM's, which write down what they are given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "sbatch": f'cp "$1" {folder}/script; echo "Submitted batch job 77"',
        "srun": "exit 1",
        "scancel": f'echo "$@" >> {folder}/cancelled',
        "sacct": "echo 'JobID|State|NodeList'",
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_an_array_is_submitted_with_what_was_asked_for(own_job, slurm, seen):
    options = {"partition": "gpu", "time": 90, "memory": 0.5, "cpus": 4, "qos": "low"}
    engine = Submitit(3, "cuda", options, detach=True)
    outcome = engine.work(own_job, seen)
    asked = {line.removeprefix("#SBATCH --") for line in (slurm / "script").read_text().splitlines()}
    assert {
        "array=0-2%3",
        "partition=gpu",
        "time=90",
        "mem=512MB",
        "cpus-per-task=4",
        "gpus-per-node=1",
        "qos=low",
    } <= asked
    assert not outcome.done and not outcome.failed
    assert seen.of("tell")[0][0].startswith("submitted 3 jobs, 77 the first")
    sent = submitit.core.utils.DelayedSubmission.load(own_job.folder / "jobs" / "77_0_submitted.pkl")
    assert sent._timeout_countdown == 24 and sent.function.charge.threads == 4


def test_no_more_jobs_are_submitted_than_there_are_cells(own_job, slurm):
    Submitit(100, "cpu", {}, detach=True).work(own_job, SILENT)
    assert f"--array=0-{len(own_job.cells) - 1}%" in (slurm / "script").read_text()


def test_what_slurm_refuses_is_told_in_its_words_and_nothing_is_left(own_job, slurm):
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    with pytest.raises(ConfigError, match="sbatch refused: sbatch: error: invalid partition"):
        Submitit(2, "cpu", {}).work(own_job, SILENT)
    assert list((own_job.folder / "jobs").iterdir()) == []


def test_an_interrupt_cancels_all_jobs_by_one_command(own_job, slurm, seen):
    def interrupt(*_):
        raise KeyboardInterrupt

    seen.inside = interrupt
    with pytest.raises(KeyboardInterrupt):
        Submitit(3, "cpu", {}).work(own_job, seen)
    assert (slurm / "cancelled").read_text() == "77_0 77_1 77_2\n"
    assert seen.of("tell")[-1] == ("3 jobs were cancelled",)
    assert not list((own_job.folder / "jobs").glob("*.pkl"))


def test_without_slurm_one_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no SLURM here .*cluster=local"):
        require_cluster({})
    require_cluster({"cluster": "local"})


def test_a_path_that_slurm_would_read_otherwise_is_refused(own_job, tmp_path):
    job = own_job._replace(folder=own_job.folder.rename(tmp_path / "100%"))
    with pytest.raises(ConfigError, match="without %"):
        Submitit(2, "cpu", {"cluster": "local"}).work(job, SILENT)


def lease(folder, name, pid, parent):
    held = {"what": {}, "machine": machine(), "host": "here", "pid": pid, "started": start_of(pid)}
    path = folder / "leases" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**held, "token": name, "since": time.time(), "parent": parent}))
    return path


def test_before_a_job_is_queued_again_its_own_workers_give_back_what_they_hold(own_job):
    path = own_job.folder / "leases" / "mine"
    loop = f"trap 'rm {path}; exit' TERM; while :; do sleep 0.02; done"
    mine, other = (subprocess.Popen(["sh", "-c", text]) for text in (loop, "exec sleep 20"))
    try:
        time.sleep(0.1)
        lease(own_job.folder, "mine", mine.pid, os.getpid())
        theirs = lease(own_job.folder, "theirs", other.pid, os.getpid() + 1)
        work = Work(charge_of(own_job, device="cpu", threads=None))
        again = work.checkpoint()
        assert mine.wait(timeout=5) == 0 and other.poll() is None
        assert theirs.exists() and not path.exists()
        assert again.function is work and again.args == ()
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


def test_a_worker_that_does_not_end_does_not_hold_up_its_job(own_job):
    process = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"])
    try:
        lease(own_job.folder, "stubborn", process.pid, os.getpid())
        began = time.monotonic()
        end_workers(own_job.folder, within=0.3)
        assert time.monotonic() - began < 2
    finally:
        process.kill()
        process.wait()
