"""Who measures is chosen before anything is: what is unknown, or not here, is one line."""

import pytest

from robust_eval.cli import _workers
from robust_eval.cli._workers import engine_named, require_attended
from robust_eval.errors import ConfigError
from robust_eval.run.engines import IN_PROCESS
from robust_eval.run.engines.local import Local

LOCAL = ["cluster=local"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("submitt", 2, "cpu"), "did you mean 'submitit'"),
        (("submitit", None, "cpu", LOCAL), "--workers: expected 1 or more with --engine submitit, got none"),
        (("submitit", 0, "cpu", LOCAL), "got 0; `run --workers 0` plans alone"),
        (("ray", 0, "cpu"), "--workers: expected 1 or more with --engine ray, got 0"),
        (("submitit", 2, "gpu", LOCAL), "expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        (("submitit", 2, "cpu", ["partion=x"]), "did you mean 'partition'"),
        (("ray", 2, "cpu", ["retrys=1"]), "did you mean 'retries'"),
        (("local", 2, "cpu", ["time=1"]), "the engine local has none"),
    ],
)
def test_a_wrong_engine_is_told_in_one_line(given, said):
    with pytest.raises(ConfigError) as error:
        engine_named(*given)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "extra"), [("submitit", "slurm"), ("ray", "ray")])
def test_an_extra_that_is_missing_is_told_with_its_command(name, extra, monkeypatch):
    monkeypatch.setattr(_workers, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"pip install 'robust-eval\[{extra}\]'"):
        engine_named(name, 2, "cpu")


def test_a_gpu_is_looked_for_where_the_workers_are(monkeypatch):
    monkeypatch.setattr(_workers, "find_spec", lambda _: object())
    chosen = engine_named("submitit", 4, "cuda:1", LOCAL)
    assert chosen.engine.workers == 4 and chosen.engine.device == "cuda:1"
    assert engine_named("ray", 4, "cuda", ["num_gpus=0.25"]).engine.options == {"num_gpus": 0.25}


def test_one_worker_here_is_this_process():
    assert engine_named("local", None, "cpu").engine is IN_PROCESS
    assert engine_named("local", 0, "cpu").engine is IN_PROCESS
    assert isinstance(engine_named("local", 2, "cpu").engine, Local)


def test_only_jobs_of_slurm_can_be_left_to_themselves():
    for name in ("local", "ray"):
        with pytest.raises(ConfigError, match=f"--detach: expected --engine submitit, got {name}"):
            engine_named(name, 2, "cpu", detach=True)
    with pytest.raises(ConfigError, match="--max-minutes"):
        require_attended(detach=True, max_minutes=1.0)
    with pytest.raises(ConfigError, match="--gate"):
        require_attended(detach=True, max_minutes=None, gated=True)
    require_attended(detach=False, max_minutes=1.0, gated=True)
