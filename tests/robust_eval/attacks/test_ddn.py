import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks._aim import Aim
from robust_eval.attacks._closest import Closest
from robust_eval.attacks._schedule import cosine, objective
from robust_eval.classifier import Gradient
from robust_eval.errors import ConfigError

PAPER = {"loss": "ce", "line_search": 0}


def run(method, classifier, x, y):
    return method.run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


def lengths(x_adv, x, p=2):
    return (x_adv - x).flatten(1).norm(p=p, dim=1)


class Watched(nn.Module):
    """Keeps the points at which a gradient was wanted, and whether they fool the network."""

    def __init__(self, network, y):
        super().__init__()
        self.network, self.y, self.points, self.fooled = network, y, [], []

    def forward(self, x):
        logits = self.network(x)
        if x.requires_grad:
            self.points.append(x.detach().clone())
            self.fooled.append(logits.argmax(1) != self.y)
        return logits


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_ddn_is_within_1_percent_of_the_nearest_of_several_hyperplanes(
    classes, linear, images, predicted, nearest
):
    network, x = linear(classes), images(64)
    y = predicted(network, x)
    ratio = lengths(attack("ddn")(Classifier(network), x, y, rng=Rng(0)), x) / nearest(network, x, y)
    # 100 steps of 5 % lead from 1 down to 0.006
    far = nearest(network, x, y) > 0.02
    assert far.sum() > 20
    assert ratio.min() > 1 - 1e-9 and ratio[far].median() < 1.002
    # between several planes a descent may settle on the second nearest
    assert torch.quantile(ratio[far], 1 if classes == 2 else 0.75) < 1.01


def test_the_cross_entropy_of_the_paper_is_drawn_past_the_nearest_of_several_hyperplanes(
    linear, images, predicted, nearest
):
    network, x = linear(6), images(48)
    y = predicted(network, x)
    sharpened, paper = (
        lengths(attack("ddn", loss=loss)(Classifier(network), x, y, rng=Rng(0)), x)
        for loss in ("annealed", "ce")
    )
    far = nearest(network, x, y) > 0.02
    assert (paper / sharpened)[far].median() > 1.1


def test_the_length_starts_at_its_first_value_and_changes_by_gamma_with_success(curved, images, predicted):
    x = images(24, low=0.45, high=0.55)
    watched = Watched(curved(), predicted(curved(), x))
    run(attack("ddn", init_norm=0.2, gamma=0.1, steps=12, **PAPER), Classifier(watched), x, watched.y)
    assert len(watched.points) == 12
    assert torch.equal(watched.points[0], x)
    # the verdict on the clean image, never fooled, is the first to change the length
    expected = torch.full((24,), 0.2, dtype=x.dtype)
    for point, fooled in zip(watched.points[1:], watched.fooled, strict=False):
        expected = expected * torch.where(fooled, 0.9, 1.1)
        torch.testing.assert_close(lengths(point, x), expected, rtol=1e-9, atol=0)


def test_the_direction_turns_by_the_normalised_gradient_with_the_step_size_of_a_cosine(
    curved, images, predicted
):
    x = images(24, low=0.45, high=0.55)
    watched = Watched(curved(), predicted(curved(), x))
    run(attack("ddn", init_norm=0.2, steps=8, **PAPER), Classifier(watched), x, watched.y)
    for t, (point, after) in enumerate(zip(watched.points, watched.points[1:], strict=False)):
        leaf = point.clone().requires_grad_()
        functional.cross_entropy(watched.network(leaf), watched.y, reduction="sum").backward()
        unit = leaf.grad / leaf.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        wanted = point - x + cosine(1.0, 0.01, t / 8) * unit
        assert functional.cosine_similarity((after - x).flatten(1), wanted.flatten(1)).min() > 1 - 1e-9
    assert (cosine(1.0, 0.01, 0.0), cosine(1.0, 0.01, 0.5), cosine(1.0, 0.01, 1.0)) == pytest.approx(
        (1, 0.505, 0.01)
    )


def test_the_nearest_adversarial_point_of_the_walk_comes_back(curved, images, predicted):
    x = images(48)
    watched = Watched(curved(), predicted(curved(), x))
    result = run(attack("ddn", line_search=0), Classifier(watched), x, watched.y)
    fooled = torch.stack(watched.fooled)
    met = torch.stack([lengths(point, x) for point in watched.points]).where(fooled, torch.inf)
    assert (lengths(result.x_adv, x) <= met.amin(0)).all()
    assert torch.equal(result.step, fooled.long().argmax(0))


def test_the_line_search_only_ever_comes_closer_and_still_fools(curved, images, predicted):
    network, x = curved(), images(48)
    y = predicted(network, x)
    far, near = (
        attack("ddn", steps=30, line_search=n)(Classifier(network), x, y, rng=Rng(0)) for n in (0, 4)
    )
    assert (predicted(network, near) != y).all()
    assert (lengths(near, x) <= lengths(far, x)).all() and (lengths(near, x) < lengths(far, x)).any()


def test_every_example_takes_every_step(curved, images, predicted):
    network, x = curved(), images(24)
    classifier = Classifier(network)
    run(attack("ddn", steps=30, line_search=4), classifier, x, predicted(network, x))
    assert (classifier.ledger["backwards"] == 30).all()
    # one more for the point after the last step, and the line search
    assert (classifier.ledger["forwards"] == 30 + 1 + 4).all()


def test_with_levels_each_pixel_is_one_of_them(curved, images, predicted):
    x = (images(24) * 255).round() / 255
    network = curved()
    y = predicted(network, x)
    smooth, rounded = (
        run(attack("ddn", levels=levels, line_search=0, steps=40), Classifier(network), x, y).x_adv
        for levels in (None, 256)
    )
    assert (predicted(network, rounded) != y).all()
    assert ((rounded * 255) - (rounded * 255).round()).abs().max() < 1e-9
    assert ((smooth * 255) - (smooth * 255).round()).abs().max() > 0.1


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3])
def test_the_scale_of_the_logits_does_not_change_the_path(scale, curved, images, predicted):
    x = images(24)
    y = predicted(curved(), x)
    usual, scaled = (attack("ddn", steps=40)(Classifier(curved(s)), x, y, rng=Rng(0)) for s in (1.0, scale))
    torch.testing.assert_close(scaled, usual, rtol=0, atol=1e-6)


# The loss


def slope(loss, logits, labels):
    leaf = logits.clone().requires_grad_()
    loss(leaf, labels).sum().backward()
    return leaf.grad


def some_logits(scale=3.0):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(64, 10, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 10, (64,), generator=generator)


def cross_entropy(logits, labels):
    return functional.cross_entropy(logits, labels, reduction="none")


def test_the_odds_have_the_direction_of_the_cross_entropy():
    logits, y = some_logits()
    ours = slope(objective("ce", 0.5), logits, y)
    theirs = slope(cross_entropy, logits, y)
    assert functional.cosine_similarity(ours, theirs).min() > 1 - 1e-12


def test_the_odds_do_not_vanish_where_the_cross_entropy_does():
    logits = torch.tensor([[200.0, 0.0, 10.0]])
    y = torch.tensor([0])
    assert (slope(cross_entropy, logits, y) == 0).all()
    torch.testing.assert_close(
        slope(objective("ce", 0.5), logits, y), torch.tensor([[-1.0, 0.0, 1.0]]), rtol=0, atol=1e-4
    )


def test_the_annealed_loss_ends_as_the_margin_and_looks_at_more_classes_before():
    logits, y = some_logits()
    first, last = (slope(objective("annealed", done), logits, y) for done in (0.0, 1.0))
    margin = slope(objective("margin", 0.0), logits, y)
    assert ((last - margin).abs().amax(1) < 0.05).double().mean() > 0.9
    assert ((first > 0.01).sum(1) > (margin > 0).sum(1)).double().mean() > 0.9


def test_classes_that_are_ruled_out_do_not_blur_the_others():
    logits, y = some_logits()
    for value in (-1e6, -torch.inf):
        ruled_out = torch.cat([logits, torch.full((64, 3), value, dtype=logits.dtype)], 1)
        usual, blurred = (slope(objective("annealed", 0.2), z, y) for z in (logits, ruled_out))
        assert (blurred[:, 10:] == 0).all()
        assert functional.cosine_similarity(usual, blurred[:, :10]).min() > 0.9


def test_towards_a_target_each_loss_is_that_of_leaving_it_turned_round():
    logits, y = some_logits()
    pairs = torch.stack([(y + 1) % 10, y], 1)
    for name in ("annealed", "ce", "margin"):
        loss = objective(name, 0.3)
        assert torch.equal(slope(loss, logits, pairs), -slope(loss, logits, y))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_class_that_is_not_finite_leaves_the_others_their_slopes_or_none_at_all(value):
    logits, y = some_logits()
    logits[:, 3] = value
    found = slope(objective("annealed", 0.0), logits, torch.zeros_like(y))
    assert value != -torch.inf or found.isfinite().all()


def test_the_wrong_class_is_the_target(curved, images, predicted):
    network, x = curved(), images(32, low=0.2, high=0.8)
    y = predicted(network, x)
    result = run(attack("ddn", target="next"), Classifier(network), x, y)
    assert torch.equal(result.target, (y + 1) % 4)
    reached = predicted(network, result.x_adv) == result.target
    assert torch.equal(reached, result.step >= 0) and reached.double().mean() > 0.8
    with pytest.raises(ConfigError, match=r"target: expected a class in 0\.\.3, got 4"):
        run(attack("ddn", target=4), Classifier(network), x, y)


def test_a_plateau_is_left_in_a_random_direction(curved, images, predicted):
    class Steps(nn.Module):
        """Flat between steps: no gradient anywhere."""

        def forward(self, x):
            return curved()((x * 4).round() / 4 + 0 * x)

    x = images(32)
    y = predicted(Steps(), x)
    method = attack("ddn", init_norm=4.0, steps=30)
    first, other = (method(Classifier(Steps()), x, y, rng=Rng(seed)) for seed in (0, 1))
    fooled = predicted(Steps(), first) != y
    assert fooled.double().mean() > 0.5
    assert not torch.equal(first, other)


# Low precision


class Biased(Classifier):
    """Gradients come with logits that are off by a constant, here and there in favour of another class."""

    proposes = True
    exact_points = 0

    def __init__(self, network, bias):
        super().__init__(network)
        self.bias = bias

    def input_gradient(self, x, y, loss, *, rng=None):
        logits, gradient = super().input_gradient(x, y, loss, rng=rng)
        return Gradient(logits - self.bias * functional.one_hot(y, logits.shape[1]), gradient)

    def proposal(self, x, *, rng=None):
        return super().logits(x, rng=rng)

    def logits(self, x, *, rng=None):
        self.exact_points += len(x)
        return super().logits(x, rng=rng)


@pytest.mark.parametrize("name", ["ddn", "fmn"])
@pytest.mark.parametrize("bias", [0.0, 0.03, -0.03, 0.3])
def test_in_low_precision_points_are_confirmed_and_proposals_that_err_cost_little(
    name, bias, curved, images, predicted
):
    network, x = curved(), images(24)
    y = predicted(network, x)
    method = attack(name, steps=70)
    norm = float("inf") if name == "fmn" else 2
    usual, biased = Classifier(network), Biased(network, bias)
    distances = []
    for classifier in (usual, biased):
        result = run(method, classifier, x, y)
        assert torch.equal(predicted(network, result.x_adv) != y, result.step >= 0)
        assert (result.step >= 0).all()
        distances.append(lengths(result.x_adv, x, norm))
    assert (distances[1] / distances[0]).median() < (1.01 if bias < 0.1 else 1.05)
    assert biased.exact_points < 30 * len(x)


def test_a_point_that_is_refused_sets_a_bar_and_is_forgotten(linear, images, predicted):
    network, x = linear(2), images(4)
    y = predicted(network, x)
    model = Biased(network, 0.0)
    closest, rng = Closest.none(x, Aim(y)), Rng(0).for_batch(4)
    far = torch.full((4,), 1.0, dtype=x.dtype)
    wrong = functional.one_hot(1 - y, 2).double()
    # proposed and waiting, then refused when the walk leaves; the same margin does not count again
    assert closest.offer(model, x, far, wrong, 1, rng=rng).all()
    assert (closest.near == 1).all() and (closest.step < 0).all()
    assert not closest.offer(model, x, far, -wrong, 2, rng=rng).any()
    assert closest.near.isinf().all() and (closest.step < 0).all()
    assert not closest.offer(model, x, far, 1.9 * wrong, 3, rng=rng).any()
    assert closest.offer(model, x, far, 2.1 * wrong, 4, rng=rng).all()
    # nothing waits for more than ten steps
    assert not closest.offer(model, x, far / 2, 2.2 * wrong, 10, rng=rng).any()


@pytest.mark.parametrize(
    ("field", "value"),
    [("gamma", 0), ("gamma", 1), ("init_norm", 0), ("levels", 1), ("loss", "dlr"), ("line_search", -1)],
)
def test_values_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"attack 'ddn': {field}: "):
        attack("ddn", **{field: value})
