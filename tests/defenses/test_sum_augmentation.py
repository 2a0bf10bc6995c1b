import pytest
import torch
from torch import nn

from defenses.sum_augmentation import SumAugmentation
from robust_eval import Rng
from robust_eval.data import Examples
from robust_eval.errors import ConfigError
from robust_eval.registry import build

SHAPE = (1, 2, 2)


class Spy(nn.Module):
    """Three logits that curve in the mean pixel; keeps what it was given."""

    def forward(self, x):
        self.seen = x
        mean = x.flatten(1).mean(1, keepdim=True)
        return torch.cat([6 * mean, 8 * mean**2, torch.sin(9 * mean)], 1)


def pool_of(images):
    return Examples(images, torch.arange(len(images)) % 2, 2)


@pytest.fixture
def pool():
    return pool_of(torch.rand(50, *SHAPE, generator=torch.Generator().manual_seed(0)))


def seen(pool, x, **params):
    network = Spy()
    module = SumAugmentation(**params).wrap(network, pool)
    module.redraw(Rng(0))
    output = module(x)
    return network.seen.unflatten(0, (len(x), module.copies)), output


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("lam", [0.5, 1.0, 2.0])
def test_the_coefficients_sum_to_one_and_weight_the_image_lam_times(k, lam):
    # with a pool of black images only the image is left, with a white image and pool everything is white
    black, white = (pool_of(torch.full((2, *SHAPE), value)) for value in (0.0, 1.0))
    x = torch.ones(3, *SHAPE)
    torch.testing.assert_close(seen(white, x, k=k, lam=lam)[0], torch.ones(3, 16, *SHAPE))
    torch.testing.assert_close(
        seen(black, x, k=k, lam=lam)[0], torch.full((3, 16, *SHAPE), lam / (lam + k - 1))
    )


def test_two_is_twice_the_weight_of_another():
    # 2 of the image against 1 + 1 + 1 of the pool
    black = pool_of(torch.zeros(2, *SHAPE))
    copies, _ = seen(black, torch.ones(1, *SHAPE), k=4, lam=2.0)
    torch.testing.assert_close(copies, torch.full_like(copies, 2 / 5))


def test_one_image_in_the_sum_is_the_undefended_network(pool):
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    copies, output = seen(pool, x, k=1, lam=3.0)
    torch.testing.assert_close(copies, x[:, None].expand_as(copies))
    torch.testing.assert_close(output, Spy()(x).log_softmax(1))


def test_what_is_added_comes_uniformly_from_the_pool():
    levels = torch.arange(10).float() / 10
    pool = pool_of(levels.view(10, 1, 1, 1).expand(10, *SHAPE))
    copies, _ = seen(pool, torch.zeros(400, *SHAPE), k=2, copies=5)
    drawn = (copies[..., 0, 0, 0].flatten() * 2 * 10).round().long()
    counts = drawn.bincount(minlength=10).double()
    assert len(counts) == 10
    assert ((counts - 200) ** 2 / 200).sum() < 21.7  # chi-square, 9 degrees of freedom, 99 %


def test_the_output_is_the_mean_of_the_copies_probabilities(pool):
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    copies, output = seen(pool, x)
    expected = Spy()(copies.flatten(0, 1)).softmax(1).unflatten(0, (6, 16)).mean(1)
    torch.testing.assert_close(output.exp(), expected)


def test_the_variance_of_the_average_falls_as_one_over_the_copies(pool):
    # one image under 4,000 ids: as many independent draws of the defense
    x = torch.full((4000, *SHAPE), 0.6)
    variances = [seen(pool, x, copies=copies)[1].exp().var(0) for copies in (1, 4, 16)]
    torch.testing.assert_close(variances[0] / variances[1], torch.full((3,), 4.0), rtol=0.12, atol=0)
    torch.testing.assert_close(variances[0] / variances[2], torch.full((3,), 16.0), rtol=0.12, atol=0)


@pytest.mark.parametrize("params", [{"k": 0}, {"copies": 0}, {"lam": 0.0}, {"lam": -1.0}])
def test_fields_out_of_range_are_refused(params):
    (field,) = params
    with pytest.raises(ConfigError, match=f"defense 'sum_augmentation': {field}: "):
        build("defense", "sum_augmentation", params)
