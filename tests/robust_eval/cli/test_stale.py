"""A number measured with a fault is not believed once the fault is mended, whatever file it was in."""

from pathlib import Path

import pytest

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
