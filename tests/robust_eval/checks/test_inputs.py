"""Each fault of what goes in and of how the network runs is named; honest models are left alone."""

import pytest
import torch
from torch import nn
from torch.autograd import grad

from robust_eval.checks import deterministic, logits
from robust_eval.checks.inputs import batch_dependence, eval_mode, normalisation, optimises_at_inference
from robust_eval.classifier import Classifier
from robust_eval.classifier.normalized import Normalized
from robust_eval.registry import build
from robust_eval.rng import Rng

from .conftest import fitted, small


class Lambda(nn.Module):
    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.function(self, x)


@pytest.fixture
def scale(zoo):
    """Check the normalisation of a network on the first test images, right or wrong."""

    def check(network, n=128):
        model = Classifier(network, precision="fp32")
        return normalisation(model, zoo.images[:n], zoo.labels[:n], Rng(zoo.seed))

    return check


def test_a_forgotten_normalisation_is_named_with_its_mean_and_std(zoo, scale):
    check = scale(zoo.normal.network)
    assert check.verdict == "fail"
    assert check.figure > 0.3
    assert "mean [0.1307] and std [0.3081]" in check.advice and "MNIST" in check.advice


def test_a_normalisation_made_twice_is_noticed(zoo, scale):
    other = Lambda(lambda self, x: self.network(0.5 * x + 0.5), network=zoo.plain)
    check = scale(Normalized(Normalized(other, [0.5], [0.5]), [0.5], [0.5]))
    assert check.verdict == "fail"
    assert check.advice.startswith("the model normalises twice")


def test_a_model_of_pixels_up_to_255_is_noticed(zoo, scale):
    check = scale(Lambda(lambda self, x: self.network(x / 255), network=zoo.plain))
    assert check.verdict == "fail"
    assert check.advice.startswith("the model expects pixels in 0..255")


@pytest.mark.parametrize("epochs", [1, 6])
@pytest.mark.parametrize("scale_of", [None, (0.1307, 0.3081), (0.5, 0.5)])
def test_a_scale_is_judged_early_and_late_in_training(zoo, scale, epochs, scale_of):
    data = build("data", "digits", {}).train()
    network = small(2)
    whole = network if scale_of is None else Normalized(network, *([number] for number in scale_of))
    fitted(whole, data.images, data.labels, seed=2, epochs=epochs)
    # hardly trained, another scale may do better: that is no failure
    assert scale(whole).verdict in (("ok",) if epochs > 1 else ("ok", "warn"))
    if scale_of is not None:
        assert scale(network).verdict in (("fail",) if epochs > 1 else ("warn", "fail"))


def test_a_large_gain_on_few_images_is_told(zoo):
    class Gains(nn.Module):
        """Right on 24 of 32 images, all once they are far from grey."""

        def forward(self, x):
            wide = (x.amax((1, 2, 3)) - 0.5).abs() > 0.4
            right = wide | (x[:, 0, 0, 0] < 0.43)
            return torch.stack([right.float(), (~right).float()], 1)

    x = torch.full((32, 1, 4, 4), 0.75)
    x[:, 0, 0, 0] = torch.linspace(0.3, 0.47, 32)
    check = normalisation(Classifier(Gains(), precision="fp32"), x, torch.zeros(32).long(), Rng(0))
    assert (check.verdict, check.figure) == ("warn", pytest.approx(8 / 32))
    assert "32 of 32 images" in check.advice and "of 24, a gain of 25 points" in check.advice


@pytest.mark.parametrize(
    ("here", "there", "classes", "verdict"),
    [
        (20, 45, 10, "ok"),
        (45, 68, 10, "ok"),
        (45, 75, 10, "warn"),
        (20, 60, 10, "warn"),  # a gain of 40 points
        (45, 68, 100, "warn"),
        (20, 48, 100, "ok"),
        (72, 85, 10, "warn"),
        (20, 95, 10, "fail"),
    ],
)
def test_where_few_answers_are_right_on_any_scale_a_better_one_says_nothing(here, there, classes, verdict):
    class Counted(nn.Module):
        """Right on so many of the images, on more of them once they are far from grey."""

        def forward(self, x):
            wide = (x[0, 0, 1, 1] - 0.5).abs() > 0.4
            right = x[:, 0, 0, 0].argsort().argsort() < (there if wide else here)
            return torch.eye(classes)[(~right).long()]

    x = torch.full((100, 1, 4, 4), 0.75)
    x[:, 0, 0, 0] = torch.linspace(0.3, 0.47, 100)
    check = normalisation(Classifier(Counted(), precision="fp32"), x, torch.zeros(100).long(), Rng(0))
    assert (check.verdict, check.figure) == (verdict, pytest.approx((there - here) / 100))


def test_networks_that_have_hardly_been_trained_are_left_alone_on_their_own_scale(shapes_unchecked):
    digits = build("data", "digits", {})
    data, test = digits.train(), digits.test(128)
    rows = slice(300)  # three steps of training
    networks = [
        fitted(small(seed), data.images[rows], data.labels[rows], seed=seed, epochs=1) for seed in range(12)
    ]
    found = [
        normalisation(Classifier(network, precision="fp32"), test.images, test.labels, Rng(0))
        for network in networks
    ]
    assert sum(check.figure >= 0.1 for check in found) >= 2, "some do better on a scale that is not theirs"
    assert sum(check.verdict != "ok" for check in found) <= 1


@pytest.mark.parametrize("name", ["plain", "robust", "normal", "smoothed"])
def test_images_on_the_right_scale_pass(zoo, scale, name):
    assert scale(getattr(zoo, name)).verdict == "ok"


def test_few_images_prove_nothing_about_a_scale(zoo, scale):
    assert scale(zoo.normal.network, n=4).verdict == "ok"


def test_dropout_that_stays_awake_is_found_by_name(zoo, subject):
    check = eval_mode(subject(zoo.faults["awake dropout"], n=8))
    assert (check.verdict, check.figure) == ("fail", 1)
    assert "dropout" in check.advice


def test_a_module_woken_during_the_forward_pass_only_is_found(zoo, subject):
    def forward(self, x):
        self.dropout.train()
        x = self.dropout(x)
        self.dropout.eval()
        return self.network(x)

    awake = Lambda(forward, network=zoo.plain, dropout=nn.Dropout(0.0))
    made = subject(awake, n=8)
    assert eval_mode(made).verdict == "fail"
    assert not awake.dropout._forward_pre_hooks


def test_a_network_is_handed_back_in_the_mode_it_came_in(zoo, subject):
    made = subject(zoo.plain, n=8)
    zoo.plain.train()
    try:
        assert eval_mode(made).verdict == "ok"
        assert all(module.training for module in zoo.plain.modules())
    finally:
        zoo.plain.eval()


def test_batch_statistics_leak_from_one_image_to_another(zoo, subject):
    check = batch_dependence(subject(zoo.faults["batch statistics"]))
    assert check.verdict == "fail"
    assert check.figure > 0.01


def test_a_model_that_cannot_answer_a_single_image_depends_on_the_batch(subject, zoo):
    norm = nn.BatchNorm1d(10, track_running_stats=False)
    check = batch_dependence(
        subject(Lambda(lambda self, x: self.norm(self.network(x)), network=zoo.plain, norm=norm))
    )
    assert (check.verdict, check.figure) == ("fail", 1)


def test_a_random_answer_is_not_mistaken_for_one_that_depends_on_the_batch(zoo, subject):
    for name in ("noisy input", "coin flip", "awake dropout"):
        for n in range(8, 16):
            assert batch_dependence(subject(zoo.faults[name], n=n)).verdict == "ok"


def test_draws_by_row_make_a_stochastic_model_independent_of_the_batch(zoo, subject):
    check = batch_dependence(subject(zoo.smoothed))
    assert check.verdict == "ok"
    assert check.figure < 1e-4


def _climb(self, x):
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        self.network(z).logsumexp(1).sum().backward()
    return self.network(x + z.grad)


def _imported(self, x):
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        return self.network(x + grad(self.network(z).sum(), z)[0]).detach()


def _functional(self, x):
    return self.network(x + torch.func.grad(lambda z: self.network(z).sum())(x))


def _direct(self, x):
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        torch.autograd.backward(self.network(z).sum())
    return self.network(x + z.grad)


@pytest.mark.parametrize("forward", [_climb, _imported, _functional, _direct])
def test_gradients_within_the_forward_pass_are_noticed_whatever_their_name(zoo, subject, forward):
    before = torch.autograd.backward
    check = optimises_at_inference(subject(Lambda(forward, network=zoo.plain), n=4))
    assert (check.verdict, check.figure) == ("warn", 1)
    assert torch.autograd.backward is before


def test_an_optimizer_that_adapts_weights_is_noticed(zoo, subject):
    def forward(self, x):
        torch.optim.SGD([torch.zeros(1, requires_grad=True)]).step()
        return self.network(x)

    assert optimises_at_inference(subject(Lambda(forward, network=zoo.plain), n=4)).figure == 1


@pytest.mark.parametrize("name", ["plain", "robust", "normal", "smoothed"])
def test_honest_models_run_as_they_should(zoo, subject, name):
    made = subject(getattr(zoo, name))
    for check in (eval_mode(made), batch_dependence(made), optimises_at_inference(made)):
        assert check.verdict == "ok", check


def test_the_faults_that_are_seen_in_the_outputs_are_seen_there(zoo):
    x = zoo.images[:64]
    for name in ("noisy input", "coin flip", "awake dropout"):
        model = Classifier(zoo.faults[name], precision="fp32")
        assert deterministic(model.logits(x), model.logits(x)).verdict == "warn"
    assert logits(Classifier(zoo.faults["softmax"], precision="fp32").logits(x)).verdict == "warn"
