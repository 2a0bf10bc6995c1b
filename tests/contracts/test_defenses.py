"""What every registered defense promises. A new one is tested here without a line being added."""

import pytest
import torch
from torch import nn

import defenses
from robust_eval import Classifier, Rng
from robust_eval.data import Examples
from robust_eval.errors import ConfigError, DataError
from robust_eval.methods import Defense
from robust_eval.registry import build, describe, names
from robust_eval.types import StochasticModule

assert defenses  # its import registers them
SHAPE, CLASSES, N = (3, 4, 4), 5, 12

every_defense = pytest.mark.parametrize("name", names("defense"))


class Curved(nn.Module):
    """A smooth network whose rows are computed alike in a batch of any size; keeps what it was given."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(torch.randn(10, 48, generator=generator, dtype=torch.float64) / 2)
        self.second = nn.Parameter(3 * torch.randn(CLASSES, 10, generator=generator, dtype=torch.float64))
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        hidden = torch.tanh(((x.flatten(1) - 0.5)[:, None] * self.first).sum(2))
        return (hidden[:, None] * self.second).sum(2)


def pool(dtype=torch.uint8, shape=SHAPE):
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (60, *shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (60,), generator=generator)
    return Examples(images if dtype == torch.uint8 else images.to(dtype) / 255, labels, CLASSES)


def images(n=N):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def wrapped(name, examples=None):
    return build("defense", name, {}).wrap(Curved(), examples or pool())


def answer(module, x, rng):
    module.redraw(rng)
    return module(x)


@every_defense
def test_the_output_is_a_log_probability(name):
    output = answer(wrapped(name), images(), Rng(0))
    assert output.shape == (N, CLASSES)
    torch.testing.assert_close(output.logsumexp(1), torch.zeros(N, dtype=torch.float64), rtol=0, atol=1e-12)


@every_defense
def test_the_same_draws_give_the_same_output_and_others_another(name):
    module, x = wrapped(name), images()
    first = answer(module, x, Rng(0))
    assert torch.equal(module(x), first)  # until the next redraw
    other = answer(module, x, Rng(0).child("other"))
    assert not torch.isclose(first, other).all(1).any()
    assert torch.equal(answer(module, x, Rng(0)), first)


@every_defense
def test_the_draws_of_a_row_do_not_depend_on_its_batch(name):
    x, perm = images(), torch.randperm(N, generator=torch.Generator().manual_seed(0))
    whole = answer(wrapped(name), x, Rng(0))
    for rows in (perm, perm[:4], perm[:1]):
        assert torch.equal(answer(wrapped(name), x[rows], Rng(0).rows(rows)), whole[rows])


@every_defense
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_changes_no_bit_and_counts_copies(name, batch_size):
    x, module = images(), wrapped(name)
    got = Classifier(module, batch_size=batch_size).logits(x, rng=Rng(0))
    assert torch.equal(got, answer(wrapped(name), x, Rng(0)).detach())
    assert module.copies >= 1
    assert max(module.network.sizes) <= max(batch_size, module.copies)


@every_defense
def test_the_copies_announced_are_those_made_at_the_most(name):
    module = wrapped(name)
    answer(module, images(), Rng(0))
    mixed = [size for size in module.network.sizes if size > N]  # a pass over the images alone is extra
    assert sum(mixed) == N * module.copies


@every_defense
def test_the_gradient_for_fixed_draws_is_that_of_a_finite_difference(name):
    module, x = wrapped(name), images(4)
    module.redraw(Rng(0))
    weights = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((module(leaf) * weights).sum(), leaf)
    with torch.no_grad():
        for seed in range(3):
            direction = torch.randn(
                x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            ahead, behind = ((module(x + h * direction) * weights).sum() for h in (1e-5, -1e-5))
            torch.testing.assert_close(
                (ahead - behind) / 2e-5, (gradient * direction).sum(), rtol=1e-6, atol=1e-8
            )


@every_defense
def test_a_pool_of_bytes_equals_the_same_pool_of_floats(name):
    first, second = (
        answer(wrapped(name, pool(dtype)), images(), Rng(0)) for dtype in (torch.uint8, torch.float32)
    )
    assert torch.equal(first, second)


@every_defense
def test_the_input_and_the_pool_are_not_written(name):
    x, examples = images(), pool()
    before = x.clone(), examples.images.clone()
    answer(wrapped(name, examples), x, Rng(0))
    assert torch.equal(x, before[0]) and torch.equal(examples.images, before[1])


@every_defense
def test_it_says_that_it_is_stochastic_and_asks_for_draws(name):
    module = wrapped(name)
    assert isinstance(module, StochasticModule) and Classifier(module).stochastic
    with pytest.raises(ValueError, match="expected rng=Rng"):
        Classifier(module).logits(images())
    with pytest.raises(ValueError, match=r"call redraw\(rng\) before the forward pass"):
        module(images())
    module.redraw(Rng(0).rows(torch.arange(3)))
    with pytest.raises(ValueError, match="expected a stream of 12 rows, one per image, got 3"):
        module(images())


@every_defense
def test_the_pool_adds_nothing_to_the_saved_weights(name):
    assert set(wrapped(name).state_dict()) == {"network.first", "network.second"}


@every_defense
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 8)], ids=str)
def test_a_pool_of_other_images_is_refused(name, shape):
    with pytest.raises(DataError, match="pool: expected images of shape"):
        answer(wrapped(name, pool(shape=shape)), images(), Rng(0))


@every_defense
def test_a_defense_is_rebuilt_from_its_description(name):
    method = build("defense", name, {})
    assert isinstance(method, Defense)
    assert build("defense", name, describe(method).params) == method
    with pytest.raises(ConfigError, match=f"defense '{name}': unknown field 'copys'"):
        build("defense", name, {"copys": 3})
