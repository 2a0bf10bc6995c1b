"""``robust-eval doctor``: what is wrong, then what to do, then the figure with its meaning."""

import re
from pathlib import Path

import numpy as np
import pytest

from robust_eval.checks.card import Turn
from robust_eval.checks.meanings import figure_text
from robust_eval.findings import Check

FACTORIES = """
import torch
from torch import nn

class Net(nn.Module):
    # reads which third of the columns is bright
    def __init__(self, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x):
        x = self.before(x)
        return self.after(8 * torch.stack([part.mean((1, 2, 3)) for part in x.split(3, 3)], 1))

def plain():
    return Net()

def through_numpy():
    return Net(lambda x: torch.from_numpy(x.numpy()))

def sigmoid():
    return Net(after=lambda z: torch.sigmoid(z - 3))

def noisy():
    return Net(lambda x: x + 0.05 * torch.randn_like(x))
"""


@pytest.fixture
def doctor(cli, work):
    Path("bright.py").write_text(FACTORIES)
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    images = 0.3 * rng.random((30, 1, 9, 9), dtype=np.float32)
    for i, label in enumerate(labels):
        images[i, :, :, 3 * label : 3 * label + 3] += 0.4
    np.savez("bright.npz", images=images, labels=labels)

    def run(factory, *options):
        given = ("--checks", "quick", *options) if "--checks" not in options else options
        return cli("doctor", "--arch", f"bright.py:{factory}", "--data", "bright.npz", *given)

    return run


def section(out, name):
    """The lines about one check."""
    lines = out.splitlines()
    first = next(i for i, line in enumerate(lines) if re.match(rf"  [✓?!] {name} ", line))
    return " ".join(" ".join(lines[first : first + 2]).split())


def test_an_honest_model_passes_and_every_figure_says_what_it_is(doctor):
    outcome = doctor("plain", "--defenses", "bit_depth", "--eps", "l2:0.5")
    assert outcome.code == 0 and re.fullmatch(r"30 images; about \d+ s at most\n", outcome.err)
    second, *rest = outcome.out.splitlines()
    assert second == "plain: 100.0 % of 30 clean images are right"
    assert rest[-1].strip().startswith("nothing was found on 30 images")
    assert "plain behind bit_depth: 100.0 % of 30 clean images are right" in rest
    assert all(": " in line for line in rest if line.startswith("  ✓"))
    assert "correct images examined: 30" in outcome.out
    assert "accuracy on clean images: 100.0 %" in outcome.out


def test_what_is_wrong_comes_before_what_to_do_and_its_figure(doctor):
    outcome = doctor("sigmoid")
    assert outcome.code == 0, "a warning"
    found = section(outcome.out, "logits")
    assert found.startswith("? logits the model returns sigmoid outputs")
    assert found.endswith("images whose outputs all lie in [0, 1]: 100.0 %")


def test_numpy_in_a_forward_pass_is_named(doctor):
    outcome = doctor("through_numpy")
    assert outcome.code == 1
    found = section(outcome.out, "vanishing_gradient")
    assert found.startswith("! vanishing_gradient gradients vanish") and "numpy" in found
    found = section(outcome.out, "gradients")
    assert "cut off from its input" in found and "numpy" in found and found.endswith("the image: yes")


def test_the_draws_of_a_gradient_can_be_given(doctor):
    outcome = doctor("noisy", "--gradient-draws", "3")
    assert "? deterministic" in outcome.out
    assert 0.9 < float(re.search(r"same direction\): ([\d.]+)", outcome.out)[1]) <= 1
    assert doctor("noisy", "--gradient-draws", "0").code == 2


@pytest.mark.parametrize("eps", ["0", "-1", "abc", "l1:3", "l2:0", "l3:1", "inf", ":"])
def test_a_radius_at_which_nothing_can_be_tried_is_refused(doctor, eps):
    outcome = doctor("plain", f"--eps={eps}")
    assert outcome.code == 2 and not outcome.out
    (line,) = outcome.err.splitlines()
    assert line.startswith(
        f"error: --eps: expected a radius > 0 in linf or l2 such as 8/255 or l2:0.5, got '{eps}'"
    )


def test_a_check_that_could_not_be_made_is_told_and_not_passed(doctor, monkeypatch):
    def crashing(subject):
        raise ZeroDivisionError("one of ours")

    monkeypatch.setattr("robust_eval.checks.suite.turns", lambda level: [Turn("crashing", crashing)])
    outcome = doctor("plain", "--checks", "quick")
    assert outcome.code == 1
    assert re.search(
        r"\? crashing +this check could not be made.*ZeroDivisionError: one of ours", outcome.out
    )
    assert "1 could not be made on" in outcome.out


def test_figures_are_told_in_their_unit():
    assert figure_text(Check("logits", "ok", 0.5, "")).endswith(": 50.0 %")
    assert figure_text(Check("eval_mode", "ok", 2.0, "")).endswith(": 2")
    assert figure_text(Check("smooth_loss", "ok", 0.00123, "")).endswith(": 0.0012")
    assert figure_text(Check("gradients", "ok", 1.0, "")).endswith(": yes")
    assert figure_text(Check("of somebody's own", "ok", 0.25, "")) == "0.25"
    assert figure_text(Check.not_made("logits", "why")) == "not made"


def test_a_busy_machine_is_told_in_a_line(cli, monkeypatch):
    monkeypatch.setattr("robust_eval.processors.load", lambda: 1000.0)
    outcome = cli("doctor", "--arch", "net.py:make", "--data", "data.npz", "--checks", "quick")
    lines = [line for line in (outcome.out + outcome.err).splitlines() if "others use this machine" in line]
    assert len(lines) == 1 and "1000.0 of" in lines[0]
