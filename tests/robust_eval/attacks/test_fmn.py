import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks.fmn import _shrunk
from robust_eval.errors import ConfigError

NORMS = ("linf", "l2", "l1")
P = {"linf": float("inf"), "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": float("inf")}
PAPER = {"loss": "margin", "line_search": 0}

every_norm = pytest.mark.parametrize("norm", NORMS)


def run(method, classifier, x, y):
    return method.run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


def lengths(x_adv, x, norm):
    return (x_adv - x).flatten(1).norm(p=P[norm], dim=1)


def optimum(network, x, y, norm):
    """Distance to the one hyperplane of a linear model with two classes."""
    logits, weight = network(x).detach(), network.weight.detach()
    return (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).norm(p=DUAL[norm])


@every_norm
def test_fmn_is_within_1_percent_of_the_hyperplane_in_each_norm(norm, linear, images, predicted):
    network, x = linear(2), images(64)
    y = predicted(network, x)
    best = optimum(network, x, y, norm)
    x_adv = attack("fmn", norm=norm)(Classifier(network), x, y, rng=Rng(0))
    assert (predicted(network, x_adv) != y).all()
    ratio = (lengths(x_adv, x, norm) / best)[best < 0.29]  # within that no pixel has to leave the box
    assert len(ratio) > 40 and ratio.min() > 1 - 1e-9 and ratio.max() < 1.01


@every_norm
def test_the_estimated_boundary_of_a_linear_model_is_crossed_at_once(norm, linear, images, predicted):
    network, x = linear(2), images(64)
    y = predicted(network, x)
    best = optimum(network, x, y, norm)
    # a first step much longer than the radius: its projection is the corner where the slope is steepest
    result = run(attack("fmn", norm=norm, steps=1, step_size=1e4, **PAPER), Classifier(network), x, y)
    inside = best < 0.28
    assert inside.sum() > 40 and (result.step[inside] == 1).all()
    assert (lengths(result.x_adv, x, norm) <= (1.05 + 1e-6) * best)[inside].all()


@every_norm
def test_the_nearest_point_of_the_ball_is_inside_and_no_other_one_is_nearer(norm):
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(40, 1, 5, 5, generator=generator, dtype=torch.float64)
    eps = torch.linspace(0, 30, 40, dtype=torch.float64) * {"linf": 0.1, "l2": 0.2, "l1": 1}[norm]
    shrunk = _shrunk(delta.clone(), eps, norm)
    own, zero = lengths(delta, 0 * delta, norm), torch.zeros_like(delta)
    inside = own <= eps
    assert inside.any() and (~inside).any()
    assert torch.equal(shrunk[inside], delta[inside])
    torch.testing.assert_close(lengths(shrunk, zero, norm)[~inside], eps[~inside], rtol=2e-6, atol=0)
    # a projection's residual makes no acute angle with any point of the ball: the largest product is eps ‖r‖_q
    residual = (delta - shrunk).flatten(1)
    support = eps * residual.norm(p=DUAL[norm], dim=1)
    own_product = (residual * shrunk.flatten(1)).sum(1)
    torch.testing.assert_close(own_product[~inside], support[~inside], rtol=1e-5, atol=1e-9)


@every_norm
def test_pixels_that_have_no_room_take_no_part_in_a_step(norm, linear):
    network = linear(2)
    direction = (network.weight[1] - network.weight[0]).detach()
    # black and white, with room in every second pixel of the way towards class 1
    room = torch.arange(48) % 2 == 0
    x = torch.where((direction > 0) == room, 0.0, 1.0).double().view(1, 3, 4, 4)
    shift = network(x).detach()

    class Shifted(nn.Module):
        """The boundary is 0.1 away from the image for the pixels that can move."""

        def forward(self, points):
            gain = 0.1 * direction[room].norm(p=DUAL[norm])
            return network(points) - shift + torch.tensor([0.0, -1.0]).double() * gain

    y = torch.zeros(1, dtype=torch.int64)
    x_adv = attack("fmn", norm=norm)(Classifier(Shifted()), x, y, rng=Rng(0))
    assert lengths(x_adv, x, norm).item() == pytest.approx(0.1, rel=0.01)
    assert torch.equal(x_adv.flatten(1)[:, ~room], x.flatten(1)[:, ~room])


def test_each_norm_is_smallest_where_it_is_the_one_made_small(curved, images, predicted):
    network, x = curved(), images(32)
    y = predicted(network, x)
    found = {
        norm: attack("fmn", norm=norm, steps=60)(Classifier(network), x, y, rng=Rng(0)) for norm in NORMS
    }
    for norm in NORMS:
        medians = {made: lengths(found[made], x, norm).median().item() for made in NORMS}
        assert min(medians, key=medians.__getitem__) == norm


@every_norm
def test_the_nearest_adversarial_point_of_the_walk_comes_back(norm, curved, images, predicted):
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.points, self.fooled = [], []

        def forward(self, x):
            logits = curved()(x)
            if x.requires_grad:
                self.points.append(x.detach().clone())
                self.fooled.append(logits.argmax(1) != y)
            return logits

    x = images(32)
    y, watched = predicted(curved(), x), Watched()
    result = run(attack("fmn", norm=norm, steps=30, line_search=0), Classifier(watched), x, y)
    fooled = torch.stack(watched.fooled)
    met = torch.stack([lengths(point, x, norm) for point in watched.points]).where(fooled, torch.inf)
    assert (lengths(result.x_adv, x, norm) <= met.amin(0)).all()
    assert torch.equal(result.step, fooled.long().argmax(0))
    assert (predicted(curved(), result.x_adv) != y).all()


def test_every_example_takes_every_step(curved, images, predicted):
    network, x = curved(), images(24)
    classifier = Classifier(network)
    run(attack("fmn", steps=20), classifier, x, predicted(network, x))
    assert (classifier.ledger["backwards"] == 20).all()
    # one more for the point after the last step, and the line search
    assert (classifier.ledger["forwards"] == 20 + 1 + 4).all()


@every_norm
@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_the_scale_of_the_logits_does_not_change_the_distances(norm, scale, curved, images, predicted):
    x = images(24)
    y = predicted(curved(), x)
    usual, scaled = (
        attack("fmn", norm=norm, steps=30)(Classifier(curved(s)), x, y, rng=Rng(0)) for s in (1.0, scale)
    )
    # rounding may decide on which side of the boundary a step ends
    torch.testing.assert_close(lengths(scaled, x, norm), lengths(usual, x, norm), rtol=1e-3, atol=0)


@every_norm
def test_the_wrong_class_is_the_target(norm, curved, images, predicted):
    network, x = curved(), images(32, low=0.2, high=0.8)
    y = predicted(network, x)
    result = run(attack("fmn", norm=norm, target="next", steps=60), Classifier(network), x, y)
    reached = predicted(network, result.x_adv) == result.target
    assert torch.equal(reached, result.step >= 0) and reached.double().mean() > 0.8


@pytest.mark.parametrize(
    ("field", "value"),
    [("gamma", 0), ("gamma", 1), ("step_size", 0), ("norm", "l0"), ("loss", "dlr"), ("line_search", -1)],
)
def test_values_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"attack 'fmn': {field}: "):
        attack("fmn", **{field: value})
