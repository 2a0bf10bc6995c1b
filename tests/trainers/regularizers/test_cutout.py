import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import ConfigError
from robust_eval.rng import Rng
from trainers.regularizers.cutout import Cutout
from trainers.regularizers.erm import ERM

N = 16


@pytest.fixture
def x(x):
    # no pixel is black, so that a hole can be told from the image
    return 0.1 + 0.9 * x


@pytest.fixture
def holes(loss):
    """Return the pixels that the network did not see."""

    def find(method, network, x, seed=0):
        loss(method, network, x, torch.zeros(len(x), dtype=torch.int64), seed)
        (seen,) = network.seen
        network.seen.clear()
        hidden = seen == 0
        torch.testing.assert_close(seen[~hidden], x[~hidden], rtol=0, atol=0)
        assert torch.equal(hidden.all(1), hidden.any(1)), "a hole goes through all channels"
        return hidden[:, 0]

    return find


@pytest.mark.parametrize("size", [0, 1])
def test_without_a_hole_it_is_erm(loss, size, network, x, y):
    torch.testing.assert_close(loss(Cutout(size=size), network, x, y), loss(ERM(), network, x, y))


@pytest.mark.parametrize(("h", "w"), [(8, 8), (9, 13)])
@pytest.mark.parametrize("size", [2, 5, 6, 8])
def test_each_hole_is_the_square_around_a_pixel_as_a_loop_over_pixels_cuts_it(holes, size, h, w, network):
    network.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    x = 0.1 + 0.9 * torch.rand(N, 3, h, w, generator=torch.Generator().manual_seed(2))
    drawn = Rng(3).child("step").for_batch(N).child("centre").uniform(2).numpy()
    expected = np.zeros((N, h, w), dtype=bool)
    for i, (u, v) in enumerate(drawn):
        row, column = int(u * h), int(v * w)
        for a in range(max(row - size // 2, 0), min(row + size // 2, h)):
            for b in range(max(column - size // 2, 0), min(column + size // 2, w)):
                expected[i, a, b] = True
    found = holes(Cutout(size=size), network, x, seed=3)
    assert np.array_equal(found.numpy(), expected)
    areas = found.sum((1, 2))
    assert areas.min() >= 1 and areas.max() <= size**2


@pytest.mark.parametrize(("side", "size"), [(8, 4), (28, 14), (32, 16), (224, 112)])
def test_by_default_a_hole_is_half_as_wide_as_the_image(loss, side, size):
    model = nn.Sequential(nn.AvgPool2d(side), nn.Flatten(), nn.Linear(1, 2))
    x, y = torch.rand(2, 1, side, side), torch.tensor([0, 1])
    torch.testing.assert_close(loss(Cutout(), model, x, y), loss(Cutout(size=size), model, x, y))


def test_a_hole_cannot_be_larger_than_the_image(loss, network, x, y):
    with pytest.raises(ConfigError, match="expected size <= 8, as the images are, got 16"):
        loss(Cutout(size=16), network, x, y)


def test_a_hole_is_centred_on_every_pixel_equally_often(holes, network):
    x = torch.ones(64 * 64, 3, 8, 8)
    found = holes(Cutout(size=2), network, x)
    # a hole of side 2 ends at its centre, below and to the right
    last = 63 - found.flatten(1).flip(1).int().argmax(1)
    counts = torch.bincount(last, minlength=64)
    assert counts.sum() == 64 * 64
    # chi-square with 63 degrees of freedom: 118 is passed once in 30000 times
    assert ((counts - 64.0) ** 2 / 64).sum() < 118


def test_the_hole_of_an_image_does_not_depend_on_its_batch(network, x, y):
    network.eval()
    rng, part = Rng(0).rows(torch.arange(100, 100 + N)), torch.tensor([7, 2])
    Cutout(size=4).loss(network, x, y, rng=rng, progress=0.0)
    Cutout(size=4).loss(network, x[part], y[part], rng=rng.select(part), progress=0.0)
    assert torch.equal(network.seen[0][part], network.seen[1])


def test_holes_lie_apart_or_all_at_one_place(holes, network, x):
    apart, together = (
        holes(Cutout(size=4, per_batch=b), network, x).flatten(1).unique(dim=0) for b in (False, True)
    )
    assert len(apart) > N // 2
    assert len(together) == 1
    other = holes(Cutout(size=4, per_batch=True), network, x, seed=1)
    assert not torch.equal(other[0].flatten(), together[0])


@pytest.mark.parametrize("per_batch", [False, True])
def test_a_hole_is_zero_after_normalisation(loss, per_batch, network, x, y):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    model = Normalized(network, mean, std)
    loss(Cutout(size=4, per_batch=per_batch), model, x, y)
    (seen,) = network.seen
    plain = (x - model.mean) / model.std
    hidden = (seen != plain).any(1)
    assert hidden.any() and not hidden.all()
    assert (seen.movedim(1, -1)[hidden].abs() < 1e-6).all()


def test_a_model_of_other_channels_says_so_itself(loss, network, y):
    model = Normalized(network, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    with pytest.raises(
        ConfigError, match="expected one mean per channel, got 3 means for images with 1 channels"
    ):
        loss(Cutout(), model, torch.rand(N, 1, 8, 8), y)


def test_labels_stay_as_they_are(loss, network, x, y):
    network.eval()
    value = loss(Cutout(size=4, criterion="bce", label_smoothing=0.1), network, x, y)
    logits = network(network.seen[0])
    target = 0.9 * functional.one_hot(y, 5) + 0.02
    torch.testing.assert_close(value, functional.binary_cross_entropy_with_logits(logits, target))


def test_it_keeps_double_precision_and_works_for_one_image(loss, network, x, y):
    value = loss(Cutout(), network.double(), x[:4].double(), y[:4])
    assert value.dtype == torch.float64
    assert loss(Cutout(), network.eval(), x[:1].double(), y[:1]).isfinite()
