"""Processes of one machine: what they tell is told once, how they end is understood, and their records are the same."""

import importlib
import os
import signal
import sys
import time
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from pandas.testing import assert_frame_equal

import defenses  # noqa: F401 - registers the methods
import trainers
from robust_eval import registry
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.results.store import Store
from robust_eval.run.engines import local
from robust_eval.run.engines.local import Local, _gone, _Heard
from robust_eval.run.run import run
from robust_eval.run.worker import SILENT, Job

PLUGIN = """
import os
from dataclasses import dataclass
from robust_eval import Attack, AttackResult, Pixels, Threat, register

@register("attack", "deadly")
@dataclass(frozen=True, kw_only=True)
class Deadly(Attack):
    '''Ends its process where it is given more than 160 images at a time.'''
    eps: Pixels = 0.1

    @property
    def threat(self):
        return Threat("linf", self.eps)

    def run(self, model, x, y, *, rng):
        if model.batch_size > 160:
            os._exit(7)
        return AttackResult((x + self.eps).clamp(0, 1), y * 0)

    def cost(self, classes):
        return None
"""
NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    print("a model may print")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def cells(tmp_path, monkeypatch):
    (tmp_path / "deadly_plugin.py").write_text(PLUGIN)
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    for kind in get_args(registry.Kind):
        registry.names(kind)  # what the packages register must outlive this test, the plug-in must not
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.delitem(sys.modules, "deadly_plugin", raising=False)
    importlib.import_module("deadly_plugin")
    tables = {
        "name": "killed",
        "checks": "off",
        "data": {"name": "digits", "n": 8},
        "recipe": {"architecture": {"name": "small_cnn", "width": 4}, "epochs": 1, "batch_size": 64},
        "train": [{"regularizer": "erm"}],
        "model": [{"architecture": f"{tmp_path / 'net.py'}:build", "name": "own"}],
        "attack": ["deadly", {"name": "pgd", "steps": 2}],
    }
    return plan(parse(tables, where="test", folder=tmp_path))


def test_a_cell_that_ends_its_worker_is_tried_with_half_the_images_and_the_others_are_as_ever(
    cells, tmp_path
):
    alone, cells = (
        cells[:1] + cells[2:],
        [cell for cell in cells if str(cell) != "erm · deadly linf 25.5/255"],
    )
    modules, one, other = (
        ("defenses", "trainers", "deadly_plugin"),
        Store(tmp_path / "a"),
        Store(tmp_path / "b"),
    )
    given = {"train": trainers.train, "progress": SILENT, "modules": modules}
    outcome = run(cells, one, engine=Local(1, 1), **given)
    assert not outcome.failed and sorted(r.key for r in outcome.done) == sorted(cell.key for cell in cells)
    assert not (one.folder / "leases").exists()
    harmless = [cell for cell in alone if "deadly" not in str(cell)]
    run(harmless, other, **given)
    for cell in harmless:
        here, there = one.read(cell.key), other.read(cell.key)
        assert_frame_equal(here.rows, there.rows)
        assert (here.summary, here.checks, here.labels) == (there.summary, there.checks, there.labels)
        assert here.provenance["weights_sha256"] == there.provenance["weights_sha256"]
    (deadly,) = (cell for cell in cells if "deadly" in str(cell))
    assert one.read(deadly.key).provenance["batch_size"] == 128


@pytest.mark.parametrize(
    ("code", "before", "after", "told", "less_memory"),
    [
        (7, 0, 0, "exit code 7", True),
        (-signal.SIGSEGV, 0, 0, "SIGSEGV", True),
        (-signal.SIGKILL, 0, 0, "SIGKILL", False),
        (-signal.SIGKILL, 3, 4, "SIGKILL while the system was out of memory", True),
        (-signal.SIGKILL, None, None, "SIGKILL", True),
    ],
)
def test_a_cell_gets_less_memory_unless_somebody_killed_its_worker(
    monkeypatch, code, before, after, told, less_memory
):
    monkeypatch.setattr(local, "out_of_memory", lambda: after)
    assert _gone(code, before) == (told, less_memory)


class Seen:
    """Remembers what it is told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *arguments: self.told.append((name, *arguments))


def message(event, **fields):
    return {"event": event, **fields}


def heard(cells, folder, now):
    seen = Seen()
    job = Job(tuple(cells), folder, trainers.train)
    return _Heard(job, seen, now=lambda: now.seconds), seen


def test_what_several_are_at_is_shown_one_after_the_other(cells, tmp_path):
    now = SimpleNamespace(seconds=0.0)
    told, seen = heard(cells, tmp_path, now)
    told.take(0, message("begin", key=cells[0].key))
    told.take(1, message("begin", key=cells[1].key))
    told.take(1, message("inside", stage="attack", done=1, of=2))
    told.take(0, message("inside", stage="attack", done=1, of=3))
    assert seen.told == [("begin", cells[0]), ("inside", "attack", 1, 3)]
    now.seconds = 3.0
    told.take(1, message("inside", stage="attack", done=2, of=2))
    assert seen.told[2:] == [("begin", cells[1]), ("inside", "attack", 2, 2)]


def test_a_cell_that_two_have_finished_is_told_once(cells, tmp_path):
    told, seen = heard(cells, tmp_path, SimpleNamespace(seconds=0.0))
    for worker in (0, 1):
        told.take(worker, message("begin", key=cells[0].key))
        told.take(worker, message("fail", key=cells[0].key, error="bad", trace="Traceback\nbad"))
    assert [line[0] for line in seen.told].count("fail") == 1
    assert [failure.error for failure in told.outcome().failed] == ["bad"]


def test_gpus_are_dealt_out_in_turn(tmp_path):
    crew = local._Crew(Local(5, 2, ("3", "GPU-7")), b"", Job((), tmp_path, trainers.train))
    given = [crew._environment(i)["CUDA_VISIBLE_DEVICES"] for i in range(5)]
    assert given == ["3", "GPU-7", "3", "GPU-7", "3"]


def test_with_nothing_to_measure_no_process_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(local.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    started = time.perf_counter()
    outcome = Local(4, 1).work(Job((), tmp_path, trainers.train), SILENT)
    assert (outcome.done, outcome.failed) == ([], []) and time.perf_counter() - started < 1


def test_weights_are_those_that_as_many_threads_as_one_process_has_would_make(tmp_path, monkeypatch, cells):
    sent = []
    monkeypatch.setattr(Job, "packed", lambda job: sent.append(job) or b"")
    monkeypatch.setattr(local._Crew, "_start", lambda crew, number: None)
    Local(4, 1).work(Job(tuple(cells), tmp_path, trainers.train), SILENT)
    assert (sent[0].training_threads, sent[0].parent) == (torch.get_num_threads(), os.getpid())
