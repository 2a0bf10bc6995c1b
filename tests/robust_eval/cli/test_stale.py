"""A number measured with a fault is not believed once the fault is mended, whatever file it was in."""

import importlib
import sys
from pathlib import Path

import pytest

from robust_eval import registry
from robust_eval.identity import file_sha256

LAYERS = """
from torch import nn

class Flipped(nn.Module):
    def forward(self, x):
        return {sign} * x
"""
BUILD = """
import json, pathlib
from torch import nn
from net import make

def imported():
    from layers import Flipped
    return nn.Sequential(make(), Flipped())

class Configured(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.sign = make(), json.loads(pathlib.Path(__file__).with_name("c.json").read_text())

    def forward(self, x):
        return self.sign * self.inner(x)
"""


def change(sign):
    Path("layers.py").write_text(LAYERS.format(sign=sign))
    Path("c.json").write_text(str(sign))


@pytest.mark.parametrize("factory", ["imported", "Configured"])
def test_a_model_that_was_mended_is_measured_again(done, undrawn, factory):
    Path("build.py").write_text(BUILD)
    own = ("evaluate", "--arch", f"build.py:{factory}", "--data", "data.npz", "--attacks", "none")
    own = (*own, "--checks", "off", "--out", "out")

    def records():
        return {path: path.read_bytes() for path in Path("out/records").rglob("*.json")}

    change(-1)
    done(*own)
    assert "1 have a record" in done(*own)
    first = records()
    change(1)
    assert "to do" in done(*own, "--dry-run") and records() == first
    printed = done(*own)
    assert "have a record" not in printed and ("measured anew" in printed) == (factory == "Configured")
    assert len(records()) == 2 and first.items() < records().items()
    assert "1 have a record" in done(*own)
    change(-1)
    assert "1 have a record" in done(*own)
    assert len(records()) == 2


ATTACK = """
from dataclasses import dataclass
from robust_eval import register
from robust_eval.methods import Attack
from robust_eval.threat import Threat
from robust_eval.types import AttackResult
import {neighbour}_steps

@register("attack", "{neighbour}_own")
@dataclass(frozen=True, kw_only=True)
class Own(Attack):
    @property
    def threat(self):
        return Threat("linf", 0.1)

    def run(self, model, x, y, *, rng):
        from {neighbour}_later import sign
        return AttackResult(x + sign * {neighbour}_steps.STEP, y * 0)
"""


@pytest.mark.parametrize("mended", ["steps", "later", "deep"])
def test_an_attack_whose_neighbour_was_mended_is_measured_again(work, mended, monkeypatch):
    monkeypatch.syspath_prepend(work)
    name = f"own_{mended}"
    Path(f"{name}.py").write_text(ATTACK.format(neighbour=name))
    files = {"steps": f"from {name}_deep import STEP", "later": "sign = 1", "deep": "STEP = 0.01"}

    def code():
        for module in [module for module in sys.modules if module.startswith(name)]:
            monkeypatch.delitem(sys.modules, module)
        importlib.invalidate_caches()
        importlib.import_module(name)
        made = registry.build("attack", f"{name}_own", {})
        del registry._METHODS["attack", f"{name}_own"]
        return registry.described(made)["code"]

    for part, text in files.items():
        Path(f"{name}_{part}.py").write_text(text)
    first = code()
    assert code() == first and len(first) == 4
    Path(f"{name}_{mended}.py").write_text(files[mended] + "  # mended")
    changed = {part for part, sha in code().items() if sha != first[part]}
    assert changed == {f"{name}_{mended}"}


def test_an_attack_that_stands_alone_is_known_as_before(work, monkeypatch):
    monkeypatch.syspath_prepend(work)
    text = ATTACK.format(neighbour="alone").replace("import alone_steps\n", "")
    Path("alone.py").write_text(text.replace("from alone_later import sign", "sign = 1"))
    importlib.import_module("alone")
    described = registry.described(registry.build("attack", "alone_own", {}))
    del registry._METHODS["attack", "alone_own"]
    assert described["code"] == {"attack:alone_own": file_sha256("alone.py")}
