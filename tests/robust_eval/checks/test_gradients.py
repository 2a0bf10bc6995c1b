"""Gradients of another function, or of one that jumps, are noticed; kinks of honest networks are not."""

import copy

import pytest
import torch
from torch import nn

from defenses.bit_depth import BitDepth
from defenses.jpeg import Jpeg
from robust_eval.adaptive import Mended
from robust_eval.checks import Subject
from robust_eval.checks.gradients import gradient_agrees, smooth_loss
from robust_eval.classifier import Classifier
from robust_eval.errors import RobustEvalError
from robust_eval.rng import Rng
from robust_eval.threat import Threat


class Cast(nn.Module):
    """An honest network that computes in float32 whatever comes in."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        if x.dtype == torch.float64:
            raise RuntimeError("expected float, got double")
        return self.network(x)


class QuietCast(Cast):
    def forward(self, x):
        return (4 * x.float()).sin().flatten(1).cumsum(1)[:, :10].to(x.dtype)


@pytest.mark.parametrize("name", ["plain", "robust", "normal", "smoothed"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_honest_gradients_agree_with_differences_to_eight_digits(zoo, subject, name, norm):
    made = subject(getattr(zoo, name), norm=norm)
    check = gradient_agrees(made)
    assert check.verdict == "ok"
    assert check.figure < 1e-6
    assert smooth_loss(made).verdict == "ok"


@pytest.mark.parametrize("name", ["straight through", "quantised"])
def test_a_gradient_of_another_function_is_noticed(zoo, subject, name):
    check = gradient_agrees(subject(zoo.faults[name]))
    assert check.verdict == "warn"
    assert check.figure > 0.9


def test_a_gradient_through_the_rest_of_the_batch_is_noticed(zoo, subject):
    assert gradient_agrees(subject(zoo.faults["batch statistics"])).verdict == "warn"


def test_a_black_image_at_the_kink_of_a_clamp_is_honest(zoo, subject):
    class Clamped(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = zoo.plain

        def forward(self, x):
            return self.network(x.clamp(0, 1))

    assert gradient_agrees(subject(Clamped(), eps=0.0)).verdict == "ok"


@pytest.mark.parametrize("network", [Cast, QuietCast])
def test_a_network_that_knows_only_float32_is_asked_in_float32(zoo, subject, network):
    made = subject(zoo.plain, n=8)
    model = Classifier(network(zoo.plain), precision="fp32")
    check = gradient_agrees(made._replace(model=model, seen=model))
    assert check.verdict == "ok"


class Half(nn.Module):
    """An honest network whose weights are bfloat16, and its input with them."""

    def __init__(self, network, *, asks):
        super().__init__()
        self.network = copy.deepcopy(network).bfloat16()
        self.asks = asks

    def forward(self, x):
        dtype = next(self.parameters()).dtype if self.asks else torch.bfloat16
        return self.network(x.to(dtype))


def test_a_network_in_half_precision_is_asked_in_double_or_not_at_all(zoo, subject):
    made = subject(zoo.plain, n=8)
    for asks in (True, False):
        model = Classifier(Half(zoo.plain, asks=asks), precision="fp32")
        check = gradient_agrees(made._replace(model=model, seen=model))
        if asks:
            assert check.verdict == "ok" and check.figure < 1e-6
        else:
            assert check.verdict == "not_made" and "half precision" in check.advice


class Declared(nn.Module):
    straight_through = True

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


def test_a_gradient_that_is_declared_as_straight_through_is_no_news(zoo, subject):
    fault = zoo.faults["quantised"]
    made = subject(fault, n=8)
    assert gradient_agrees(made).verdict == "warn"
    mended = Mended(fault, straight_through=True)
    for network in (Declared(fault), mended, nn.Sequential(Declared(nn.Identity()), fault)):
        model = Classifier(network, precision="fp32")
        assert gradient_agrees(made._replace(seen=model)) is None
    for network in (Mended(fault), nn.Sequential(fault)):
        model = Classifier(network, precision="fp32")
        assert gradient_agrees(made._replace(seen=model)).verdict == "warn"


@pytest.mark.parametrize("defense", [Jpeg(), BitDepth()])
def test_a_defense_says_that_its_gradient_is_not_its_own(zoo, subject, defense):
    model = Classifier(defense.wrap(zoo.plain), precision="fp32")
    assert gradient_agrees(subject(zoo.plain, n=8)._replace(seen=model)) is None


def test_a_network_that_writes_into_its_input_is_asked_like_any_other(zoo, subject):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = zoo.plain

        def forward(self, x):
            return self.network(x.sub_(0.0))

    made = subject(zoo.plain, n=8)
    model = Classifier(InPlace(), precision="fp32")
    assert gradient_agrees(made._replace(seen=model)) == gradient_agrees(made)


def test_random_draws_are_held_still_while_slopes_are_compared(zoo, subject):
    for name in ("noisy input", "coin flip", "awake dropout"):
        made = subject(zoo.faults[name])
        assert gradient_agrees(made).verdict == "ok"
        assert smooth_loss(made).verdict == "ok"


def test_a_model_cut_off_from_its_input_raises_what_attacks_raise(zoo, subject):
    with pytest.raises(RobustEvalError, match="autograd"):
        gradient_agrees(subject(zoo.faults["detached"]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_ripple_makes_the_loss_jump(zoo, subject, norm):
    made = subject(zoo.faults["shattered"], norm=norm)
    check = smooth_loss(made)
    assert check.verdict == "warn"
    assert check.figure > 10 * smooth_loss(made._replace(seen=subject(zoo.plain).model)).figure
    # its gradient is right, and leads nowhere
    assert gradient_agrees(made).verdict == "ok"


def test_the_change_of_a_linear_margin_is_that_of_the_closed_form():
    class Linear(nn.Module):
        def forward(self, x):
            score = (x - 0.5).flatten(1).sum(1)
            return torch.stack([1 + score, torch.zeros_like(score)], 1)

    x = torch.full((16, 1, 16, 16), 0.5)
    model = Classifier(Linear(), precision="fp32")
    made = Subject(model, model, x, torch.zeros(16).long(), Threat("linf", 0.1), Rng(0).for_batch(16))
    # the margin 1 is 1/16 away in L2, and a sum of 256 uniform draws is normal: sqrt(2/pi) of its spread on average
    expected = (2 / torch.pi) ** 0.5 * 1e-3 / 3**0.5 * 16
    assert smooth_loss(made).figure == pytest.approx(expected, rel=0.15)
