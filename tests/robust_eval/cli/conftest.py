import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import reports  # noqa: F401 - its modules are looked up by name
from robust_eval.cli import main

FACTORIES = """
import torch
from torch import nn

def make(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def ten():
    return make(10)

def probabilities():
    return nn.Sequential(make(), nn.Softmax(1))

def nan():
    network = make()
    nn.init.constant_(network[1].weight, float("nan"))
    return network

class Small(nn.Module):
    # takes the few images it is tried on, and fails on more
    def __init__(self):
        super().__init__()
        self.inner = make()

    def forward(self, x):
        if len(x) > 3:
            raise RuntimeError("too many images")
        return self.inner(x)

def colour():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(3))

def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))

def images():
    return nn.Conv2d(1, 1, 1)

def broken():
    raise KeyError("weights")

def number():
    return 5
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder to work in, with factories, images that fit them and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUST_EVAL_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr("robust_eval.processors.load", lambda: 0.0)  # whoever else is at work
    Path("net.py").write_text(FACTORIES)
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 1, 8, 8), dtype=np.float32), np.arange(40) % 3
    np.savez(
        "data.npz",
        test_images=images[:12],
        test_labels=labels[:12],
        train_images=images[12:],
        train_labels=labels[12:],
    )
    np.savez("bare.npz", images=images[:12], labels=labels[:12])
    return tmp_path


@pytest.fixture
def cli(work, monkeypatch, capsys):
    """Run the command line in this process, from its arguments to its exit code."""

    def run(*arguments) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["robust-eval", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Outcome(stop.value.code, out, err)

    return run


@pytest.fixture
def done(cli):
    """Run a command that must succeed; return what it printed, results last."""

    def run(*arguments):
        outcome = cli(*arguments)
        assert outcome.code == 0, outcome
        return outcome.err + outcome.out

    return run


@pytest.fixture
def undrawn(monkeypatch):
    """Draw no figures, which takes most of the time of a small run."""
    monkeypatch.setattr("reports.charts.figure", lambda *_, **__: None)


@pytest.fixture
def own():
    """The command that evaluates a network of this folder on its images, without examining it."""
    return ("evaluate", "--arch", "net.py:make", "--data", "data.npz", "--checks", "off", "--out", "out")
