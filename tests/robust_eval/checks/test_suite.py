"""The suite: every planted fault is found by the check meant for it, no honest model is suspected, at a known price."""

import pytest
from torch import nn

from robust_eval.checks import suite
from robust_eval.checks.card import Turn, card_of, turns
from robust_eval.checks.suite import run_suite
from robust_eval.errors import ConfigError

# the functions called here are checked one by one in the other files
pytestmark = pytest.mark.usefixtures("shapes_unchecked")
two_seeds = pytest.mark.parametrize("zoo", [0, 1], indirect=True)

HONEST = ["plain", "robust", "normal", "smoothed"]
CAUGHT_BY = {
    "large logits": {"unbounded"},
    "quantised": {"gradient_agrees", "unbounded", "planted"},
    "straight through": {"gradient_agrees"},
    "batch statistics": {"batch_dependence", "eval_mode"},
    "awake dropout": {"eval_mode"},
    "shattered": {"smooth_loss", "planted"},
    "purified": {"optimises_at_inference"},
    "detached": {"gradients"},
}


def raised(checks):
    return {check.name for check in checks if check.verdict != "ok"}


def cost(subject):
    """Passes in units of a gradient, of which a forward is a third."""
    forwards, backwards = (int(subject.model.ledger[name].sum()) for name in ("forwards", "backwards"))
    return backwards + (forwards - backwards) / 3


@two_seeds
@pytest.mark.parametrize("name", HONEST)
def test_no_honest_model_is_suspected(zoo, subject, name):
    checks = run_suite(subject(getattr(zoo, name)), "quick")
    assert not raised(checks)
    assert len(checks) == len(turns("quick")) - (name == "smoothed")  # nothing is planted in that one


def test_no_honest_model_is_suspected_by_the_full_suite(zoo, subject):
    checks = run_suite(subject(zoo.robust, n=8), "full")
    assert not raised(checks)
    assert len(checks) == len(turns("full")) == len({check.name for check in checks})


@two_seeds
@pytest.mark.parametrize("name", CAUGHT_BY)
def test_every_planted_fault_is_found_by_the_check_meant_for_it(zoo, subject, name):
    assert CAUGHT_BY[name] <= raised(run_suite(subject(zoo.faults[name], n=16), "quick"))


def test_what_does_not_depend_on_the_norm_is_asked_once(zoo, subject):
    made = subject(zoo.plain, n=8, norm="l2", eps=0.8)
    whole, rest = run_suite(made, "quick"), run_suite(made, "quick", norm_only=True)
    assert rest == tuple(check for check in whole if not card_of(check.name).any_norm) and len(rest) < len(
        whole
    )


def test_a_model_without_gradients_is_told_once(zoo, subject):
    checks = run_suite(subject(zoo.faults["detached"], n=8), "full")
    assert [check.verdict for check in checks if check.name == "gradients"] == ["fail"]
    assert {"batch_dependence", "eval_mode"} <= {check.name for check in checks}


def test_the_quick_suite_costs_less_than_three_thousand_gradients(zoo, subject):
    robust, plain = subject(zoo.robust), subject(zoo.plain)
    run_suite(robust, "quick")
    run_suite(plain, "quick")
    assert cost(plain) < cost(robust) < 3000


def test_the_suite_gives_the_same_verdicts_again(zoo, subject):
    made = subject(zoo.plain, n=8)
    assert run_suite(made, "quick") == run_suite(made, "quick")


def test_a_check_that_raises_is_recorded_with_its_reason(zoo, subject, monkeypatch):
    def crashing(subject):
        raise IndexError("list index out of range\nand more")

    monkeypatch.setattr(suite, "turns", lambda of: [*turns(of)[:2], Turn("crashing", crashing)])
    begun = []
    *others, check = run_suite(subject(zoo.plain, n=4), "quick", begin=begun.append)
    assert [other.verdict for other in others] == ["ok", "ok"]
    assert (check.name, check.verdict) == ("crashing", "not_made")
    assert check.advice.endswith("nothing is known: IndexError: list index out of range")
    assert begun == ["eval_mode", "batch_dependence", "crashing"]


def test_a_model_that_takes_no_single_image_depends_on_its_batch(zoo, subject):
    class Squeezing(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            logits = self.network(x)
            return (
                logits.squeeze() if len(x) > 1 else logits.squeeze().gather(1, logits.argmax(1, keepdim=True))
            )

    found = {check.name: check for check in run_suite(subject(Squeezing(zoo.plain), n=8), "quick")}
    assert found["batch_dependence"].verdict == "fail"
    assert found["gradient_agrees"].verdict == "ok"  # an image beside another is answered
    assert set(found) == {turn.name for turn in turns("quick")}


def test_wrong_parameters_are_no_check_that_could_not_be_made(zoo, subject, monkeypatch):
    def refused(subject):
        raise ConfigError("eps: expected less")

    monkeypatch.setattr(suite, "turns", lambda of: [Turn("refused", refused)])
    with pytest.raises(ConfigError):
        run_suite(subject(zoo.plain, n=4), "quick")
