"""Code of the user's leaves the process as it was."""

import builtins
import logging
import os
import signal
import sys
import tomllib
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, registry
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.workbench import Workbench
from robust_eval.methods import Regularizer
from robust_eval.models.factory import load_factory
from robust_eval.surroundings import surroundings_kept
from trainers.objective import Objective

CHANGES = {
    "folder": ("os.chdir('/')", os.getcwd),
    "default dtype": ("torch.set_default_dtype(torch.float64)", torch.get_default_dtype),
    "default device": ("torch.set_default_device('meta')", torch.get_default_device),
    "grad mode": ("torch.set_grad_enabled(False)", torch.is_grad_enabled),
    "anomaly": ("torch.autograd.set_detect_anomaly(True)", torch.is_anomaly_enabled),
    "deterministic": (
        "torch.use_deterministic_algorithms(True)",
        torch.are_deterministic_algorithms_enabled,
    ),
    "cudnn": ("torch.backends.cudnn.benchmark = True", lambda: torch.backends.cudnn.benchmark),
    "threads": ("torch.set_num_threads(torch.get_num_threads() + 1)", torch.get_num_threads),
    "autocast": (
        "torch.set_autocast_enabled('cpu', True)",
        lambda: torch.is_autocast_enabled("cpu"),
    ),
    "warnings": ("warnings.simplefilter('ignore', BytesWarning)", lambda: list(warnings.filters)),
    "signals": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        lambda: signal.getsignal(signal.SIGTERM),
    ),
    "numpy": ("np.seterr(all='raise')", np.geterr),
    "logging": ("logging.disable(logging.CRITICAL)", lambda: logging.root.manager.disable),
    "stdout": ("sys.stdout = None", lambda: sys.stdout),
    "print": ("builtins.print = None", lambda: builtins.print),
}
MODULES = (
    "import builtins, logging, os, signal, sys, warnings\nimport numpy as np, torch\nfrom torch import nn\n"
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_put_back(change):
    code, read = CHANGES[change]
    before = read()
    with surroundings_kept():
        exec(MODULES + code)
        assert read() != before
    assert read() == before
    with pytest.raises(KeyError), surroundings_kept():
        exec(MODULES + code)
        raise KeyError
    assert read() == before


@pytest.mark.parametrize("place", ["import", "factory", "forward"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_model_file_changes_nothing_for_good(change, place, tmp_path):
    code, read = CHANGES[change]
    lines = {name: code if name == place else "pass" for name in ("import", "factory", "forward")}
    (tmp_path / "net.py").write_text(f"""{MODULES}
{lines["import"]}
class Net(nn.Flatten):
    def forward(self, x):
        out = super().forward(x)
        {lines["forward"]}
        return out
def build():
    {lines["factory"]}
    return Net()
""")
    before = read()
    network = load_factory(f"{tmp_path}/net.py:build").network
    Classifier(network).logits(torch.rand(2, 1, 2, 2))
    assert read() == before


METHODS = """
from dataclasses import dataclass
from robust_eval import register
from robust_eval.data import Examples, Source
from robust_eval.methods import Attack, Corruption, Defense
from robust_eval.threat import Threat
from robust_eval.types import AttackResult
{lines}

@register("attack", "{name}")
@dataclass(frozen=True, kw_only=True)
class Own(Attack):
    @property
    def threat(self):
        return Threat("linf", 0.1)
    def run(self, model, x, y, *, rng):
        {code}
        return AttackResult(x.clone(), y * 0)

@register("corruption", "{name}")
@dataclass(frozen=True, kw_only=True)
class Changed(Corruption):
    group = "noise"
    def apply(self, x, *, rng):
        {code}
        return x

@register("defense", "{name}")
@dataclass(frozen=True, kw_only=True)
class Wrapped(Defense):
    def wrap(self, network, pool=None):
        {code}
        return nn.Sequential(network)

@register("data", "{name}")
@dataclass(frozen=True, kw_only=True)
class Noise(Source):
    name = "noise"
    def test(self, n):
        examples = Examples(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4) % 2, 2)
        {code}
        return examples
    def train(self):
        return None
"""
TABLES = """
imports = ["{name}"]
data = {{ name = "{name}", n = 4 }}
checks = "off"
attack = ["{name}"]
corruption = ["{name}"]
defense = ["{name}"]
model = [{{ architecture = "net.py:build" }}]
"""


@pytest.mark.parametrize("change", CHANGES)
def test_imports_and_methods_of_ones_own_change_nothing_for_good(change, tmp_path, monkeypatch):
    code, read = CHANGES[change]
    name = "own_" + change.replace(" ", "_")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(MODULES + METHODS.format(lines=code, code=code, name=name))
    (tmp_path / "net.py").write_text("from torch import nn\ndef build():\n    return nn.Flatten()\n")
    before = read()
    tables = tomllib.loads(TABLES.format(name=name))
    experiment = parse(tables, where="test", folder=tmp_path)
    assert read() == before
    cells = plan(experiment)
    assert read() == before
    bench = Workbench(lambda source: source.load(lambda model: tmp_path), device="cpu")
    for cell in cells:
        with torch.no_grad():  # as long as somebody wants it so
            evaluate(cell, bench)
            assert not torch.is_grad_enabled()
        assert read() == before
    assert {cell.family for cell in cells} == {"clean", "attack", "corruption"}
    for kind in ("attack", "corruption", "defense", "data"):
        del registry._METHODS[kind, name]


@pytest.mark.parametrize("change", CHANGES)
def test_a_loss_changes_nothing_for_good(change):
    code, read = CHANGES[change]

    class Own(Regularizer):
        def loss(self, model, x, y, *, rng, progress):
            loss = model(x).sum()
            exec(MODULES + code)
            return loss

    before, network = read(), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    Objective(network, Own())(torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.long), Rng(0), 0.0)
    assert read() == before


def test_a_deleted_folder_is_no_obstacle(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with surroundings_kept():
        assert isinstance(nn.Flatten(), nn.Module)
