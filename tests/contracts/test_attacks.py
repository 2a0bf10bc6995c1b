"""What every registered attack promises. A new one is tested here without a line being added."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks import square
from robust_eval.classifier import frozen
from robust_eval.errors import ConfigError, DataError
from robust_eval.methods import Attack
from robust_eval.registry import build, describe, find, names
from robust_eval.types import StochasticModule

EPS = 0.1
SMALL = {"steps": 8, "restarts": 2, "binary_search_steps": 4, "queries": 60, "targets": 2}
"""Enough for the laws that do not ask for strength."""


def fields(name):
    return {field.name for field in dataclasses.fields(find("attack", name))}


SHORT = {
    "auto_attack": {"steps": 20, "targets": 2, "queries": 100},
    "square": {"queries": 1500},
    "hop_skip_jump": {"queries": 1000, "starts": 20},
    "boundary": {"queries": 400, "starts": 20},
    "rotation_translation": {"angles": 5, "shifts": 3},
    "fgsm_normalised": {"std": (1.0,)},  # any number of channels, and eps in pixels
}
"""An ensemble is as strong as its strongest attack, which has its full length where it is tested alone; a random search
needs no more on images this small."""


def make(name, norm, eps=EPS, **params):
    own = {"eps": eps, "norm": norm, **SHORT.get(name, {}), **params}
    return attack(name, **{key: value for key, value in own.items() if key in fields(name)})


def small(name, norm, **params):
    return make(name, norm, **{**SMALL, **params})


ALL = [(name, norm) for name in names("attack") for norm in find("attack", name).norms]
SPATIAL = "spatial"
"""The bound of turns and shifts: laws of a ball and its radius do not concern them."""
FIXED = [(name, norm) for name, norm in ALL if not find("attack", name).minimal_norm and norm != SPATIAL]
MINIMAL = [(name, norm) for name, norm in ALL if find("attack", name).minimal_norm]

STRONG = [
    (name, norm)
    for name, norm in FIXED
    # a random search finds the corner of a cube, but comes no nearer than that to one point of a sphere
    if not find("attack", name).baseline and (find("attack", name).gradients or norm == "linf")
]
COUNTED = [(name, norm) for name, norm in MINIMAL if norm == "l0"]
"""Those that make the number of changed pixels small, which no dual norm measures."""
P = {"linf": float("inf"), "l2": 2, "l1": 1}
DUAL = {float("inf"): 1, 2: 2, 1: float("inf")}

every_attack = pytest.mark.parametrize(("name", "norm"), ALL)
every_fixed_attack = pytest.mark.parametrize(("name", "norm"), FIXED)
ONCE = [
    (name, norm)
    for i, (name, norms) in enumerate((n, find("attack", n).norms) for n in names("attack"))
    for norm in norms[i % len(norms) :][:1]
]
"""Every attack in one of its norms, for laws of bookkeeping: those do not ask which ball it is."""

each_attack_once = pytest.mark.parametrize(("name", "norm"), ONCE)
every_strong_attack = pytest.mark.parametrize(("name", "norm"), STRONG)
every_minimal_attack = pytest.mark.parametrize(("name", "norm"), MINIMAL)
every_measured_attack = pytest.mark.parametrize(("name", "norm"), [at for at in MINIMAL if at not in COUNTED])
every_counting_attack = pytest.mark.parametrize(("name", "norm"), COUNTED)


class Linear(nn.Module):
    def __init__(self, classes, shape, dtype=torch.float64, offset=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(classes + shape[0])
        inputs = torch.Size(shape).numel()
        self.weight = nn.Parameter(torch.randn(classes, inputs, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(offset - self.weight.detach().sum(1) / 2)
        self.to(dtype)

    def forward(self, x):
        return functional.linear(x.flatten(1), self.weight, self.bias)

    def distances(self, x, y, p):
        """Distance of each example to the nearest other class: a margin over a norm dual to l_p."""
        weight, logits = self.weight.detach().double(), self(x).detach().double()
        margins = logits.gather(1, y[:, None]) - logits
        norms = (weight[y][:, None] - weight).norm(p=DUAL[p], dim=2)
        return torch.where(norms > 0, margins / norms, torch.inf).amin(1)

    def fewest_pixels(self, x, y):
        """Return how many pixels must change at least: those that bring most within the box, one after the other."""
        weight, logits = self.weight.detach().double(), self(x).detach().double()
        fewest = torch.full((len(x),), torch.inf, dtype=torch.float64)
        for other in range(len(weight)):
            slope = weight[other] - weight[y]
            room = torch.where(slope > 0, 1 - x.flatten(1).double(), -x.flatten(1).double())
            brings = (slope * room).view(x.shape).sum(1).flatten(1).sort(1, descending=True).values.cumsum(1)
            margins = logits.gather(1, y[:, None]) - logits[:, other, None]
            able = (other != y) & (brings[:, -1:] > margins)[:, 0]
            count = (brings <= margins).sum(1) + 1.0
            fewest = torch.minimum(fewest, torch.where(able, count, torch.inf))
        return fewest


class Padded(nn.Module):
    """Adds classes that never win, for attacks that want several."""

    def __init__(self, network, classes):
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, x):
        logits = self.network(x)
        missing = max(self.classes - logits.shape[1], 0)
        return torch.cat([logits, logits.new_full((len(x), missing), -1e6)], 1)


def enough_classes(network, name):
    return Padded(network, find("attack", name).min_classes)


class Curved(nn.Module):
    """A smooth two-layer network whose rows are computed alike in a batch of any size."""

    def __init__(self, shape=(3, 4, 4), classes=4, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        inputs = torch.Size(shape).numel()
        self.first = nn.Parameter(torch.randn(12, inputs, generator=generator, dtype=dtype) / 2)
        self.second = nn.Parameter(2 * torch.randn(classes, 12, generator=generator, dtype=dtype))

    def forward(self, x):
        hidden = torch.tanh(((x.flatten(1) - 0.5)[:, None] * self.first).sum(2))
        return (hidden[:, None] * self.second).sum(2)


class Layers(nn.Sequential):
    """An ordinary network with parts that behave otherwise in training, left in mixed modes."""

    def __init__(self, channels=3, classes=4):
        torch.manual_seed(3)
        super().__init__(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(6 * 16, classes),
        )
        self.train()
        self[1].eval()
        self[0].weight.requires_grad_(False)


def images(n, shape=(3, 4, 4), low=0.0, high=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n)
    return low + (high - low) * torch.rand(n, *shape, generator=generator, dtype=torch.float64).to(dtype)


def predicted(network, x):
    with torch.no_grad(), frozen(network):
        return network(x).argmax(1)


def distance(x, x_adv, norm):
    if norm == "l0":
        return (x_adv != x).any(1).flatten(1).sum(1).double()
    return (x_adv.double() - x.double()).flatten(1).norm(p=P[norm], dim=1)


# Strength


@every_strong_attack
@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 5, 5), torch.float64), ((3, 4, 4), torch.float32)], ids=str
)
def test_a_fixed_radius_flips_those_whose_margin_in_the_dual_norm_is_below_it(name, norm, dtype, shape):
    network, x = Linear(2, shape, dtype), images(96, shape, 0.35, 0.65, dtype)
    y = predicted(network, x)
    optimum = network.distances(x, y, P[norm])
    eps = optimum.median().item()
    x_adv = make(name, norm, eps)(Classifier(enough_classes(network, name)), x, y, rng=Rng(0))
    flipped = predicted(network, x_adv) != y
    # a walk of finite length ends within 2 % of the best point of a ball with a round border
    assert flipped[optimum < (1 - 1e-5 if norm == "linf" else 0.98) * eps].all()
    assert not flipped[optimum > (1 + 1e-5) * eps].any()


@every_measured_attack
@pytest.mark.parametrize(
    ("classes", "dtype"), [(2, torch.float64), (2, torch.float32), (6, torch.float64)], ids=str
)
def test_a_minimal_norm_is_within_5_percent_of_the_distance_to_the_nearest_hyperplane(
    name, norm, classes, dtype
):
    network, x = Linear(classes, (3, 4, 4), dtype), images(96, low=0.3, high=0.7, dtype=dtype)
    y = predicted(network, x)
    optimum = network.distances(x, y, P[norm])
    typical = (optimum > {"linf": 0.004, "l2": 0.02, "l1": 0.05}[norm]) & (
        optimum < 0.3
    )  # within 0.3 no pixel has to leave the box
    assert typical.sum() > 20
    x, y, optimum = x[typical], y[typical], optimum[typical]
    x_adv = make(name, norm)(Classifier(network), x, y, rng=Rng(0))
    assert (predicted(network, x_adv) != y).all()
    ratio = distance(x, x_adv, norm) / optimum
    assert ratio.min() > 1 - 1e-5
    if not find(
        "attack", name
    ).gradients:  # how near a search comes with all its queries is tested where it is alone
        return
    # between several planes a descent may settle on the second nearest
    assert ratio.median() < 1.05 and ratio.max() < (1.05 if classes == 2 else 1.2)


@every_counting_attack
@pytest.mark.parametrize(("classes", "dtype"), [(2, torch.float64), (6, torch.float32)], ids=str)
def test_a_minimal_count_is_within_1_pixel_of_the_fewest_that_flip_a_linear_model(name, norm, classes, dtype):
    network, x = Linear(classes, (3, 8, 8), dtype), images(96, (3, 8, 8), dtype=dtype)
    y = predicted(network, x)
    optimum = network.fewest_pixels(x, y)
    assert optimum.isfinite().all() and (optimum > 1).sum() > 15
    x_adv = make(name, norm)(Classifier(network), x, y, rng=Rng(0))
    assert (predicted(network, x_adv) != y).all()
    more = distance(x, x_adv, norm) - optimum
    assert more.min() >= 0 and more.max() <= 1 and more.mean() < 0.2


@every_attack
def test_logits_that_are_all_negative_change_nothing(name, norm):
    low, usual = (Linear(4, (3, 4, 4), offset=offset) for offset in (-50.0, 0.0))
    x = images(12, low=0.3, high=0.7)
    y = predicted(usual, x)
    first, second = (small(name, norm)(Classifier(net), x, y, rng=Rng(0)) for net in (usual, low))
    assert (low(second) < 0).all()
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)
    assert torch.equal(predicted(usual, first), predicted(low, second))


@every_attack
def test_a_success_seen_anywhere_on_the_path_is_kept(name, norm):
    class Strip(nn.Module):
        """The other class wins in a strip narrower than a step, so that a walk steps in and out of it."""

        def __init__(self, centre):
            super().__init__()
            self.centre, self.crossed = centre, False

        def forward(self, x):
            other = 0.006 - (x.flatten(1).mean(1) - self.centre).abs()
            self.crossed |= bool((other > 0).any())
            return torch.stack([torch.zeros_like(other), other], 1)

    x, y, crossed = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.int64), 0
    for centre in torch.linspace(0.512, 0.6, 6).tolist():
        strip = Strip(centre)
        model = Classifier(enough_classes(strip, name))
        x_adv = small(name, norm, steps=9, relative_step_size=0.3)(model, x, y, rng=Rng(0))
        saw, crossed = strip.crossed, crossed + strip.crossed
        assert (predicted(strip, x_adv) != y).item() == saw
    # a first step of length 1 passes over every strip
    assert crossed or find("attack", name).minimal_norm or norm == SPATIAL


# Constraints


@every_attack
def test_a_result_stays_in_the_ball_and_in_the_box(name, norm):
    x = images(32, dtype=torch.float32).mul(1.4).sub(0.2).clamp(0, 1)  # many pixels on the border of the box
    network = Layers().eval()
    y, method = predicted(network, x), small(name, norm, eps=0.3)
    x_adv = method(Classifier(network), x, y, rng=Rng(0))
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype and x_adv.isfinite().all()
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert not torch.equal(x_adv, x)
    if method.threat.eps is not None and norm != SPATIAL:
        assert distance(x, x_adv, norm).max() <= 0.3 + 1e-6


@every_fixed_attack
def test_a_radius_of_zero_gives_the_clean_image_back(name, norm):
    x, network = images(16), Curved()
    x_adv = small(name, norm, eps=0.0)(Classifier(network), x, predicted(network, x), rng=Rng(0))
    assert torch.equal(x_adv, x)


@every_minimal_attack
def test_a_minimal_norm_attack_that_finds_nothing_gives_the_clean_image_back(name, norm):
    class Sure(nn.Module):
        def forward(self, x):
            return torch.stack([100 + x.flatten(1).mean(1), x.flatten(1).amax(1)], 1)

    x, y = images(8), torch.zeros(8, dtype=torch.int64)
    with frozen(network := Sure()):
        result = small(name, norm, initial_const=1e-6).run(Classifier(network), x, y, rng=Rng(0).for_batch(8))
    assert torch.equal(result.x_adv, x)
    assert (result.step == -1).all()


@every_attack
def test_a_model_that_cannot_be_fooled_is_never_said_to_be(name, norm):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([1.0, 0.0, -1.0], dtype=x.dtype) + 0 * x.flatten(1).mean(1, keepdim=True)

    x, y = images(8), torch.zeros(8, dtype=torch.int64)
    method, classifier = small(name, norm), Classifier(enough_classes(Constant(), name))
    result = method.run(classifier, x, y, rng=Rng(0).for_batch(8))
    assert (result.step == -1).all() and result.x_adv.isfinite().all()
    if method.minimal_norm or "restarts" not in fields(name):  # a random start is a move of its own
        assert torch.equal(result.x_adv, x)
    if method.gradients:
        assert (classifier.ledger["zero_gradients"] > 0).all()


@each_attack_once
def test_the_input_is_not_written(name, norm):
    x, network = images(16), Curved()
    y = predicted(network, x)
    before = x.clone(), y.clone()
    small(name, norm)(Classifier(network), x, y, rng=Rng(0))
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])


@each_attack_once
def test_the_result_shares_no_memory_with_the_input(name, norm):
    x = images(4)
    for y in (predicted(Curved(), x), predicted(Curved(), x) + 4):
        result = small(name, norm)(Classifier(Curved(classes=9)), x, y, rng=Rng(0))
        assert result.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


@each_attack_once
def test_examples_already_misclassified_come_back_untouched(name, norm):
    x, network = images(24), Curved()
    right = predicted(network, x)
    wrong = torch.arange(24) % 3 == 0
    y = torch.where(wrong, (right + 1) % 4, right)
    classifier = Classifier(network)
    x_adv = small(name, norm)(classifier, x, y, rng=Rng(0))
    assert torch.equal(x_adv[wrong], x[wrong])
    assert not torch.equal(x_adv[~wrong], x[~wrong])
    assert (classifier.ledger["backwards"][:24][wrong] == 0).all()


@each_attack_once
def test_no_images_are_no_problem(name, norm):
    x = images(4)[:0]
    x_adv = small(name, norm)(Classifier(Curved()), x, torch.zeros(0, dtype=torch.int64), rng=Rng(0))
    assert x_adv.shape == x.shape


@each_attack_once
@pytest.mark.parametrize("offset", [-0.5, 0.5, torch.nan])
def test_pixels_outside_the_box_are_refused(name, norm, offset):
    x = images(4) + offset
    with pytest.raises(DataError, match=r"attack: expected pixels in \[0, 1\], got values from"):
        small(name, norm)(Classifier(Curved()), x, torch.zeros(4, dtype=torch.int64), rng=Rng(0))


@each_attack_once
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 11)])
def test_grey_and_colour_and_few_and_many_classes_are_attacked(name, norm, channels, classes):
    network = Layers(channels, max(classes, find("attack", name).min_classes)).eval()
    x = images(8, (channels, 4, 4), dtype=torch.float32)
    y = predicted(network, x)
    eps = {"linf": 0.5, "l2": 2.0, "l1": 8.0}.get(norm)
    wide = {"degrees": 180.0, "translation": 0.5}
    x_adv = make(name, norm, eps=eps, steps=30, **wide)(Classifier(network), x, y, rng=Rng(0))
    assert (predicted(network, x_adv) != y).any()


# The same numbers, whatever the batch


@each_attack_once
def test_the_batch_size_of_the_model_changes_no_bit(name, norm):
    x, network = images(12), Curved()
    y = predicted(network, x)
    whole, *others = (
        small(name, norm)(Classifier(network, batch_size=size), x, y, rng=Rng(0)) for size in (12, 1, 5, 64)
    )
    for other in others:
        assert torch.equal(other, whole)


@each_attack_once
def test_without_ids_an_image_is_known_by_its_pixels(name, norm):
    x, network, method = images(6), Curved(), small(name, norm)
    y = predicted(network, x)
    whole = method(Classifier(network), x.clone().requires_grad_(), y, rng=Rng(0))
    assert not whole.requires_grad
    for rows in (torch.arange(5, -1, -1), torch.tensor([4])):
        assert torch.equal(method(Classifier(network), x[rows], y[rows], rng=Rng(0)), whole[rows])


class Typed(nn.Sequential):
    """Gives logits in another dtype than its weights have, if asked to."""

    def __init__(self, weights, logits):
        torch.manual_seed(4)
        super().__init__(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 10))
        self.to(weights)
        self.logits = logits

    def forward(self, x):
        return super().forward(x).to(self.logits)


@each_attack_once
@pytest.mark.parametrize(
    ("weights", "logits"),
    [
        (torch.float64, torch.float64),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float64),
        (torch.float32, torch.bfloat16),
    ],
    ids=str,
)
def test_networks_of_every_dtype_are_attacked(name, norm, weights, logits):
    x = images(3, dtype=torch.float32)
    model = Classifier(Typed(weights, logits))
    assert model.logits(x).dtype == torch.float32
    y = model.logits(x).argmax(1)
    x_adv = small(name, norm)(model, x, y, rng=Rng(0))
    assert x_adv.dtype == torch.float32 and x_adv.isfinite().all()


@each_attack_once
def test_order_and_company_of_an_example_change_no_bit(name, norm):
    x, network, method = images(12), Curved(), small(name, norm)
    y = predicted(network, x)
    whole = method(Classifier(network), x, y, rng=Rng(0).rows(torch.arange(12)))
    perm = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for rows in (perm, perm[:5], perm[:1]):
        part = method(Classifier(network), x[rows], y[rows], rng=Rng(0).rows(rows))
        assert torch.equal(part, whole[rows])


@each_attack_once
def test_the_same_seed_gives_the_same_result_and_global_generators_do_not_matter(name, norm):
    x, network, method = images(12), Curved(), small(name, norm)
    y = predicted(network, x)
    torch.manual_seed(0)
    first = method(Classifier(network), x, y, rng=Rng(4))
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(method(Classifier(network), x, y, rng=Rng(4)), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


# What it costs


class Counting(nn.Module):
    """Counts the rows that pass through a network, forwards and backwards."""

    def __init__(self, network):
        super().__init__()
        self.network, self.forwards, self.backwards = network, 0, 0

    def forward(self, x):
        self.forwards += len(x)
        x = x * 1
        if x.requires_grad:
            x.register_hook(self.count)
        return self.network(x)

    def count(self, gradient):
        self.backwards += len(gradient)


@each_attack_once
def test_the_ledger_says_what_the_network_saw_row_by_row(name, norm, monkeypatch):
    # else fewer images get more proposals at once, some of them for nothing
    monkeypatch.setattr(square, "AHEAD", 1)
    x, n = images(6), 6
    y, method = predicted(Curved(), x), small(name, norm)
    together = Counting(Curved())
    classifier = Classifier(together, batch_size=4)
    method(classifier, x, y, rng=Rng(0).rows(torch.arange(n)))
    ledger = classifier.ledger
    assert ledger["forwards"].sum() == together.forwards
    assert ledger["backwards"].sum() == together.backwards
    assert (together.backwards > 0) == find("attack", name).gradients
    for row in range(n):
        alone, ids = Counting(Curved()), torch.tensor([row])
        method(Classifier(alone), x[ids], y[ids], rng=Rng(0).rows(ids))
        assert (ledger["forwards"][row], ledger["backwards"][row]) == (alone.forwards, alone.backwards)


@each_attack_once
def test_zero_gradients_are_counted_for_the_rows_that_met_them(name, norm):
    class Flat(Curved):
        def forward(self, x):
            dark = x.flatten(1).mean(1, keepdim=True) < 0.5
            return torch.where(dark, super().forward(x).detach(), super().forward(x))

    x, network = images(16, low=0.3, high=0.7), Flat()
    y, classifier = predicted(network, x), Classifier(network)
    small(name, norm, eps=1e-4)(classifier, x, y, rng=Rng(0))
    blind, dark = classifier.ledger["zero_gradients"] > 0, x.flatten(1).mean(1) < 0.5
    if not find("attack", name).gradients:
        assert not blind.any()
    elif find("attack", name).minimal_norm:  # it may walk into the dark
        assert blind[dark].all()
    else:
        assert dark.any() and torch.equal(blind, dark)


# Models that misbehave


class NaN(nn.Module):
    """A network of which something is NaN: its outputs, those of the second half, or its gradients."""

    def __init__(self, where):
        super().__init__()
        self.where, self.network = where, Curved()

    def forward(self, x):
        logits = self.network(x)
        if self.where == "everywhere":
            return logits * torch.nan
        if self.where == "off the clean image":
            clean = (x == x.flatten(1)[:, :1, None, None]).flatten(1).all(1)
            return torch.where(clean[:, None], logits, logits * torch.nan)
        if self.where == "one class":
            return torch.cat([logits[:, :3], logits[:, 3:] * torch.nan], 1)
        zero = (x.flatten(1) * 0).abs().sqrt().sum(1, keepdim=True)  # its derivative is 0 times infinity
        return logits + zero


@each_attack_once
@pytest.mark.parametrize("where", ["everywhere", "off the clean image", "one class", "gradient"])
@pytest.mark.parametrize("label", [0, 3])
def test_nan_neither_crashes_an_attack_nor_gets_into_an_image(name, norm, where, label):
    x, network = torch.linspace(0, 1, 6, dtype=torch.float64).view(6, 1, 1, 1).repeat(1, 3, 4, 4), NaN(where)
    y = torch.full((6,), label)
    x_adv = small(name, norm)(Classifier(network), x, y, rng=Rng(0))
    assert x_adv.isfinite().all() and x_adv.min() >= 0 and x_adv.max() <= 1
    result = small(name, norm).run(Classifier(network), x, y, rng=Rng(0).for_batch(6))
    assert result.x_adv.isfinite().all()


@each_attack_once
@pytest.mark.parametrize("hooked", [False, True], ids=["plain", "hooked"])
def test_modes_weights_statistics_gradients_and_hooks_are_as_before(name, norm, hooked):
    network = Layers()
    network[5].weight.grad = torch.ones_like(network[5].weight)
    if hooked:
        network[2].register_forward_hook(lambda *_: None)
    before = state_of(network)
    x = images(12, dtype=torch.float32)
    small(name, norm)(Classifier(network), x, predicted(network, x), rng=Rng(0))
    assert same_state(state_of(network), before)


@each_attack_once
@pytest.mark.parametrize("call", [1, 2, 4])
def test_modes_weights_and_statistics_are_as_before_when_the_model_raises(name, norm, call):
    class Failing(Layers):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == call:
                raise RuntimeError("out of memory")
            return super().forward(x)

    x, y = images(12, dtype=torch.float32), predicted(Layers(), images(12, dtype=torch.float32))
    network = Failing()
    before, classifier = state_of(network), Classifier(network, batch_size=4)
    with pytest.raises(RuntimeError, match="out of memory"):
        small(name, norm)(classifier, x, y, rng=Rng(0))
    assert same_state(state_of(network), before)
    small(name, norm)(classifier, x, y, rng=Rng(0))
    assert same_state(state_of(network), before)


def state_of(network):
    modes = [module.training for module in network.modules()]
    needs = [(weight.requires_grad, weight.grad) for weight in network.parameters()]
    hooks = [
        list(getattr(module, kind).values())
        for module in network.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    ]
    return (modes, needs, hooks), {key: value.clone() for key, value in network.state_dict().items()}


def same_state(first, second):
    return first[0] == second[0] and all(torch.equal(first[1][key], second[1][key]) for key in first[1])


# Stochastic models


class Noisy(StochasticModule):
    """Adds a draw to every pixel; keeps the streams it was given and whether a gradient was wanted."""

    def __init__(self, scale=0.05):
        super().__init__()
        self.network, self.scale, self.calls = Curved(), scale, []

    def redraw(self, rng):
        self.noise = rng.normal(3, 4, 4).double() * self.scale
        self.path = rng.path

    def forward(self, x):
        self.calls.append((self.path, x.requires_grad, len(x)))
        return self.network(x + self.noise)


@each_attack_once
def test_the_draws_of_a_stochastic_model_depend_on_the_row_only(name, norm):
    x, method = images(16), small(name, norm)
    y = predicted(Curved(), x)
    whole = method(Classifier(Noisy()), x, y, rng=Rng(0).rows(torch.arange(16)))
    assert not torch.equal(whole, method(Classifier(Noisy()), x, y, rng=Rng(1)))
    perm = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    for rows, size in ((perm, 64), (perm[:3], 64), (perm[:4], 1)):
        part = method(Classifier(Noisy(), batch_size=size), x[rows], y[rows], rng=Rng(0).rows(rows))
        assert torch.equal(part, whole[rows])


@each_attack_once
def test_an_attack_on_a_stochastic_model_sees_fresh_draws_at_each_step(name, norm):
    x, network = images(8), Noisy()
    small(name, norm)(Classifier(network), x, predicted(Curved(), x), rng=Rng(0))
    paths = [path for path, wants_gradient, _ in network.calls if wants_gradient]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(
    ("name", "norm"), [pair for pair in ONCE if not find("attack", pair[0]).minimal_norm]
)
def test_an_attack_on_a_stochastic_model_does_not_stop_early(name, norm):
    def steps_of(network):
        x = images(8)
        classifier = Classifier(network)
        method = small(name, norm, eps=0.5)
        method.run(classifier, x, predicted(Curved(), x), rng=Rng(0).for_batch(8))
        return classifier.ledger["backwards" if method.gradients else "forwards"]

    whole = steps_of(Noisy())
    assert (whole == whole[0]).all()
    assert (steps_of(Curved()) <= whole).all()
    if whole[0] > 1:
        assert (steps_of(Curved()) < whole).any()


# As plain data


@pytest.mark.parametrize("name", names("attack"))
def test_an_attack_is_rebuilt_from_its_description(name):
    method = attack(name)
    assert isinstance(method, Attack)
    described = describe(method)
    assert (described.kind, described.name) == ("attack", name)
    assert build("attack", name, described.params) == method


@pytest.mark.parametrize("name", names("attack"))
def test_fields_out_of_range_or_misspelt_are_refused_by_name(name):
    has_radius = not find("attack", name).minimal_norm and SPATIAL not in find("attack", name).norms
    assert ("eps" in fields(name)) == has_radius
    with pytest.raises(ConfigError, match=f"attack '{name}': unknown field 'epss'"):
        attack(name, epss=1)
    for field, values in {
        "eps": [-0.1, "a", float("nan")],
        "steps": [0, 1.5],
        "restarts": [0],
        "norm": ["l7"],
    }.items():
        for value in values if field in fields(name) else []:
            with pytest.raises(ConfigError, match=f"attack '{name}': {field}: "):
                attack(name, **{field: value})


@every_attack
def test_the_threat_names_the_ball(name, norm):
    threat = make(name, norm).threat
    assert threat.norm == norm
    if norm != SPATIAL:
        assert threat.eps == (None if find("attack", name).minimal_norm else EPS)
