"""What every registered defense promises. A new one is tested here without a line being added."""

import pytest
import torch
from torch import nn

import defenses
from defenses._straight_through import Preprocessed
from robust_eval import Classifier, Rng
from robust_eval.data import Examples
from robust_eval.errors import ConfigError, DataError
from robust_eval.methods import Defense
from robust_eval.registry import build, describe, find, names
from robust_eval.types import StochasticModule

assert defenses  # its import registers them
SHAPE, CLASSES, N = (3, 4, 4), 5, 12

# what a field can make of a method, beside its defaults
CASES = [
    *((name, {}) for name in names("defense")),
    ("flip_crop", {"crop": 0}),
    ("mixup_inference", {"kind": "pl"}),
    ("mixup_inference", {"kind": "combined"}),
]


def cases(which=lambda method, module: True):
    """Parametrize over the defenses that are such, with their fields."""
    found = []
    for name, params in CASES:
        method = build("defense", name, params)
        if which(method, method.wrap(Curved(), pool())):
            found.append(pytest.param(method, id=" ".join([name, *map(str, params.values())])))
    return pytest.mark.parametrize("method", found)


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


def answer(module, x, rng):
    module.redraw(rng)
    return module(x)


class Jitter(StochasticModule):
    """A network that draws by itself."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def redraw(self, rng):
        self.rng = rng

    def forward(self, x):
        noise = self.rng.for_batch(len(x)).child("jitter").normal(CLASSES, device=x.device)
        return self.network(x) + noise.to(x.dtype)


every_defense = cases()
drawing = cases(lambda method, module: method.stochastic)
drawing_nothing = cases(lambda method, module: not method.stochastic)
mixing = cases(lambda method, module: method.needs_pool)
alone = cases(lambda method, module: not method.needs_pool)
smooth = cases(lambda method, module: not isinstance(module, Preprocessed))
straight = cases(lambda method, module: isinstance(module, Preprocessed))


@every_defense
def test_the_output_is_a_log_probability(method):
    output = answer(method.wrap(Curved(), pool()), images(), Rng(0))
    assert output.shape == (N, CLASSES)
    torch.testing.assert_close(output.logsumexp(1), torch.zeros(N, dtype=torch.float64), rtol=0, atol=1e-12)
    assert answer(method.wrap(Curved(), pool()), images()[:0], Rng(0)).shape == (0, CLASSES)


@drawing
def test_the_same_draws_give_the_same_output_and_others_another(method):
    module, x = method.wrap(Curved(), pool()), images()
    first = answer(module, x, Rng(0))
    assert torch.equal(module(x), first)  # until the next redraw
    other = answer(module, x, Rng(0).child("other"))
    assert not torch.isclose(first, other).all(1).any()
    assert torch.equal(answer(module, x, Rng(0)), first)


@drawing_nothing
def test_without_draws_there_is_one_answer_and_nothing_to_ask_for(method):
    module, x = method.wrap(Curved(), pool()), images()
    assert isinstance(module, StochasticModule) and not Classifier(module).stochastic
    first = module(x)
    assert torch.equal(answer(module, x, Rng(0).rows(torch.arange(3))), first)
    assert torch.equal(module(x[:5]), first[:5])


@every_defense
def test_the_draws_of_a_row_do_not_depend_on_its_batch(method):
    x, perm = images(), torch.randperm(N, generator=torch.Generator().manual_seed(0))
    whole = answer(method.wrap(Curved(), pool()), x, Rng(0))
    for rows in (perm, perm[:4], perm[:1]):
        assert torch.equal(answer(method.wrap(Curved(), pool()), x[rows], Rng(0).rows(rows)), whole[rows])


@every_defense
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_changes_no_bit_and_counts_copies(method, batch_size):
    x, module = images(), method.wrap(Curved(), pool())
    got = Classifier(module, batch_size=batch_size, accelerate=False).logits(x, rng=Rng(0))
    assert torch.equal(got, answer(method.wrap(Curved(), pool()), x, Rng(0)).detach())
    assert module.copies >= 1
    assert max(module.network.sizes) <= max(batch_size, module.copies)


@every_defense
def test_the_copies_announced_are_those_made_at_the_most(method):
    module = method.wrap(Curved(), pool())
    answer(module, images(), Rng(0))
    copies = [size for size in module.network.sizes if size > N]  # a pass over the images alone is extra
    assert sum(copies or module.network.sizes) == N * module.copies


@every_defense
def test_a_network_that_draws_by_itself_draws_anew_for_each_copy_and_each_image(method):
    module, x = method.wrap(Jitter(Curved()), pool()), images()
    assert Classifier(module).stochastic
    first = answer(module, x, Rng(0))
    assert torch.equal(module(x), first)
    assert not torch.isclose(first, answer(module, x, Rng(1))).all(1).any()
    rows = torch.tensor([7, 2])
    assert torch.equal(answer(module, x[rows], Rng(0).rows(rows)), first[rows])
    drawn = Jitter.forward(module.network, x[:1].expand(len(module.network.rng.index), *SHAPE))
    assert len(drawn.unique(dim=0)) == len(drawn)


@smooth
def test_the_gradient_for_fixed_draws_is_that_of_a_finite_difference(method):
    module, x = method.wrap(Curved(), pool()), images(4)
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


@straight
def test_the_gradient_of_a_step_without_one_is_the_networks_where_the_step_leads(method):
    module, leaf = method.wrap(Curved(), pool()), images(4).requires_grad_()
    weights = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((module(leaf) * weights).sum(), leaf)
    there = module.transform(leaf.detach()).requires_grad_()
    assert not torch.equal(there, leaf)
    (expected,) = torch.autograd.grad((Curved()(there).log_softmax(1) * weights).sum(), there)
    assert torch.equal(gradient, expected)


@every_defense
def test_a_graph_survives_the_draws_that_come_after_it(method):
    # as an attack does that averages its gradient over draws: forward passes first, one backward pass at the end
    module, x = method.wrap(Curved(), pool()), images(4)
    one_by_one = []
    for draw in range(3):
        leaf = x.clone().requires_grad_()
        one_by_one += torch.autograd.grad(answer(module, leaf, Rng(0).child(draw))[:, 0].sum(), leaf)
    leaf = x.clone().requires_grad_()
    outputs = [answer(module, leaf, Rng(0).child(draw))[:, 0].sum() for draw in range(3)]
    (together,) = torch.autograd.grad(sum(outputs), leaf)
    torch.testing.assert_close(together, sum(one_by_one))


@mixing
def test_a_pool_of_bytes_equals_the_same_pool_of_floats(method):
    first, second = (
        answer(method.wrap(Curved(), pool(dtype)), images(), Rng(0)) for dtype in (torch.uint8, torch.float32)
    )
    assert torch.equal(first, second)


@mixing
def test_a_defense_that_mixes_asks_for_a_pool(method):
    with pytest.raises(ConfigError, match="pool: expected training images to mix with, got none"):
        method.wrap(Curved())


@alone
def test_a_defense_that_does_not_mix_needs_no_pool(method):
    with_pool, without = (answer(method.wrap(Curved(), p), images(), Rng(0)) for p in (pool(), None))
    assert torch.equal(with_pool, without)


@every_defense
def test_the_input_and_the_pool_are_not_written(method):
    x, examples = images(), pool()
    before = x.clone(), examples.images.clone()
    answer(method.wrap(Curved(), examples), x, Rng(0))
    assert torch.equal(x, before[0]) and torch.equal(examples.images, before[1])


@drawing
def test_it_says_that_it_is_stochastic_and_asks_for_draws(method):
    module = method.wrap(Curved(), pool())
    assert isinstance(module, StochasticModule) and Classifier(module).stochastic
    with pytest.raises(ValueError, match="expected rng=Rng"):
        Classifier(module).logits(images())
    with pytest.raises(ValueError, match=r"call redraw\(rng\) before the forward pass"):
        module(images())
    module.redraw(Rng(0).rows(torch.arange(3)))
    with pytest.raises(ValueError, match="expected a stream of 12 rows, one per image, got 3"):
        module(images())


@every_defense
def test_the_defense_adds_nothing_to_the_saved_weights(method):
    assert set(method.wrap(Curved(), pool()).state_dict()) == {"network.first", "network.second"}


@mixing
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 8)], ids=str)
def test_a_pool_of_other_images_is_refused(method, shape):
    with pytest.raises(DataError, match="pool: expected images of shape"):
        answer(method.wrap(Curved(), pool(shape=shape)), images(), Rng(0))


@every_defense
def test_nothing_is_certified_unless_asked_for(method):
    assert method.certify(Classifier(Curved()), images(), rng=Rng(0)) is None


@every_defense
def test_a_defense_is_rebuilt_from_its_description(method):
    name = describe(method).name
    assert isinstance(method, Defense) and isinstance(method, find("defense", name))
    assert build("defense", name, describe(method).params) == method
    with pytest.raises(ConfigError, match=f"defense '{name}': unknown field 'copys'"):
        build("defense", name, {"copys": 3})
