"""Cells that take no time: a linear network and a trained one, on a few digits."""

import pytest
import torch

import defenses  # noqa: F401 - registers the methods
import trainers
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.results.planned import begin, write_plan
from robust_eval.run.worker import Job

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def tiny(tmp_path):
    """Four cells of a network in a file, and four of one that is trained."""
    (tmp_path / "net.py").write_text(NET)
    tables = {
        "name": "tiny",
        "checks": "off",
        "data": {"name": "digits", "n": 8},
        "recipe": {"architecture": {"name": "small_cnn", "width": 4}, "epochs": 1, "batch_size": 64},
        "train": [{"regularizer": "erm"}],
        "model": [{"architecture": f"{tmp_path / 'net.py'}:build", "name": "own"}],
        "attack": ["fgsm", {"name": "pgd", "steps": 2}],
        "corruption": [{"name": "fog", "severity": 1}],
    }
    return plan(parse(tables, where="test", folder=tmp_path))


@pytest.fixture
def own_job(tiny, tmp_path):
    """The cells that need no training, planned in a folder."""
    cells = [cell for cell in tiny if cell.model.name == "own"]
    folder = tmp_path / "run"
    folder.mkdir()
    write_plan(folder, cells)
    begin(folder)
    return Job(tuple(cells), folder, trainers.train, ("defenses", "trainers"))


class Seen:
    """Remembers what it is told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *arguments: self.told.append((name, *arguments))

    def of(self, name):
        return [line[1:] for line in self.told if line[0] == name]


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def one_process(tiny, tmp_path):
    """The store of a run of this process alone."""
    from robust_eval.results.store import Store
    from robust_eval.run.run import run
    from robust_eval.run.worker import SILENT

    store = Store(tmp_path / "one")
    run(tiny, store, train=trainers.train, progress=SILENT)
    return store


@pytest.fixture
def threads():
    return torch.get_num_threads()
