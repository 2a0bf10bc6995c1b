import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.errors import ConfigError


def run(method, classifier, x, y):
    return method.run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


def changed(x_adv, x):
    """Return how many pixels differ in some channel."""
    return (x_adv != x).any(1).flatten(1).sum(1)


class Sums(nn.Module):
    """The other class wins where the bright values add up to more than ``enough``; each of ``heavy`` counts tenfold."""

    def __init__(self, enough, heavy, shape):
        super().__init__()
        self.enough = enough
        self.weight = torch.ones(shape, dtype=torch.float64)
        for channel, row, column in heavy:
            self.weight[channel, row, column] = 10.0

    def forward(self, x):
        return torch.stack(
            [torch.zeros(len(x), dtype=x.dtype), (x * self.weight).flatten(1).sum(1) - self.enough], 1
        )


@pytest.mark.parametrize(("enough", "pixels"), [(9.5, 1), (19.5, 2), (29.5, 3)])
def test_the_heaviest_pixels_are_changed_and_no_others(enough, pixels):
    heavy = [(0, 1, 2), (0, 5, 5), (0, 7, 0)]
    network, x = Sums(enough, heavy, (1, 8, 8)), torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    result = run(attack("sigma_zero"), Classifier(network), x, torch.zeros(1, dtype=torch.int64))
    assert result.step >= 0 and changed(result.x_adv, x).item() == pixels
    places = (result.x_adv != x).nonzero()[:, 1:].tolist()
    assert {tuple(place) for place in places} <= set(heavy)


def test_a_pixel_counts_once_whatever_its_channels():
    # three values of one pixel bring as much as three values of three pixels: one pixel is fewer
    together, apart = [(0, 2, 2), (1, 2, 2), (2, 2, 2)], [(0, 5, 1), (1, 1, 5), (2, 6, 6)]
    network, x = Sums(29.5, together + apart, (3, 8, 8)), torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    result = run(attack("sigma_zero"), Classifier(network), x, torch.zeros(1, dtype=torch.int64))
    assert changed(result.x_adv, x).item() == 1
    assert (result.x_adv != x).nonzero()[:, 2:].unique(dim=0).tolist() == [[2, 2]]


def test_more_steps_come_nearer_to_the_fewest_pixels_of_a_large_linear_model():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3 * 16 * 16, generator=generator, dtype=torch.float64)
    x = torch.rand(24, 3, 16, 16, generator=generator, dtype=torch.float64)
    room = torch.where(weight > 0, 1 - x.flatten(1), -x.flatten(1))
    brings = (weight * room).view(x.shape).sum(1).flatten(1).sort(1, descending=True).values.cumsum(1)
    behind = brings[torch.arange(24), torch.arange(24) % 12] - 0.1  # 1 to 12 pixels at most
    fewest = (brings <= behind[:, None]).sum(1) + 1
    shift = (x.flatten(1) @ weight) + behind

    class Behind(nn.Module):
        def forward(self, points):
            margin = points.flatten(1) @ weight - shift
            return torch.stack([torch.zeros_like(margin), margin], 1)

    y = torch.zeros(24, dtype=torch.int64)
    mean = {}
    for steps in (50, 400):
        result = run(attack("sigma_zero", steps=steps), Classifier(Behind()), x, y)
        more = changed(result.x_adv, x) - fewest
        assert (result.step >= 0).all() and (more >= 0).all()
        mean[steps] = more.double().mean().item()
    assert mean[400] < mean[50] and mean[400] < 1 and more.max() <= 2


def test_changed_pixels_that_are_not_needed_are_put_back(linear, images, predicted):
    network, x = linear(3), images(48)
    y = predicted(network, x)
    kept, fewer = (
        run(attack("sigma_zero", steps=12, put_back=passes), Classifier(network), x, y) for passes in (0, 6)
    )
    assert (predicted(network, fewer.x_adv) != y).all() and torch.equal(kept.step, fewer.step)
    # each of its pixels is one of the walk
    assert ((fewer.x_adv == x) | (kept.x_adv != x).any(1, keepdim=True)).all()
    less = changed(kept.x_adv, x) - changed(fewer.x_adv, x)
    assert (less >= 0).all() and (less > 0).double().mean() > 0.1


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_the_scale_of_the_logits_hardly_changes_the_counts(scale, curved, images, predicted):
    x = images(24)
    y = predicted(curved(), x)
    usual, scaled = (
        attack("sigma_zero", steps=40)(Classifier(curved(s)), x, y, rng=Rng(0)) for s in (1.0, scale)
    )
    # rounding may decide on which side of a threshold a pixel ends
    assert (changed(usual, x) == changed(scaled, x)).double().mean() > 0.8


def test_the_wrong_class_is_the_target(curved, images, predicted):
    network, x = curved(), images(32, low=0.2, high=0.8)
    y = predicted(network, x)
    result = run(attack("sigma_zero", target="next", steps=60), Classifier(network), x, y)
    reached = predicted(network, result.x_adv) == result.target
    assert torch.equal(reached, result.step >= 0) and reached.double().mean() > 0.8


def test_every_example_takes_every_step(curved, images, predicted):
    network, x = curved(), images(24)
    classifier = Classifier(network)
    run(attack("sigma_zero", steps=20), classifier, x, predicted(network, x))
    # a gradient more for what each pixel brings; passes for the point after the last step, and for the ends of the box
    assert (classifier.ledger["backwards"] == 20 + 1).all()
    assert (classifier.ledger["forwards"] == 20 + 1 + 1 + 1 + 6).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("sigma", 0), ("threshold", 1.5), ("threshold_step", -1), ("step_size", 0), ("norm", "l0")],
)
def test_values_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"attack 'sigma_zero': .*{field}"):
        attack("sigma_zero", **{field: value})
