"""What attacks are pointed at: the same decisions, with gradients that lead somewhere."""

import math

import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.adaptive import Expectation, GlobalDraws, adapt, draws_by_itself, enough_draws, mend
from robust_eval.adaptive.mending import Mended
from robust_eval.adaptive.straight_through import StraightThrough
from robust_eval.types import StochasticModule

N, CLASSES = 24, 4


class Smooth(nn.Module):
    """A small smooth network; ``scale`` multiplies its logits."""

    def __init__(self, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Linear(48, 16)
        self.second = nn.Linear(16, CLASSES)
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=generator) * (0.6 if weight.ndim > 1 else 0.1)
        self.scale = scale

    def forward(self, x):
        return self.second(torch.tanh(self.first((x - 0.5).flatten(1)))) * self.scale


class Noisy(StochasticModule):
    """Adds declared noise to the image; rows draw for themselves."""

    def __init__(self, sigma):
        super().__init__()
        self.network, self.sigma, self.rng = Smooth(), sigma, None

    def redraw(self, rng):
        self.rng = rng

    def forward(self, x):
        noise = self.rng.child("noise").normal(*x.shape[1:])
        return self.network(x + self.sigma * noise)


class Around(nn.Module):
    """The network behind a step that changes the image by ``change``."""

    def __init__(self, change, after=lambda z: z):
        super().__init__()
        self.network, self.change, self.after = Smooth(), change, after

    def forward(self, x):
        return self.after(self.network(self.change(x)))


def images():
    x = torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    return x, Smooth()(x).argmax(1)


def no_grad(x):
    with torch.no_grad():
        return x + 0.0


def inference_mode(x):
    with torch.inference_mode():
        return x + 0.0


FAULTS = {
    "rounded": lambda x: (x * 255).round() / 255,
    "floored in place": lambda x: (x * 255).floor_() / 255,
    "cast": lambda x: (x * 255 + 0.5).byte().float() / 255,
    "detached": lambda x: x.detach(),
    "data": lambda x: x.data,
    "without gradients": no_grad,
    "in inference mode": inference_mode,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_gradients_pass_straight_through_steps_and_cuts_whose_values_stay(fault):
    x, _ = images()
    plain = Smooth()
    leaf, same = x.clone().requires_grad_(), x.clone().requires_grad_()
    with StraightThrough():
        out = Around(FAULTS[fault])(leaf)
    assert torch.allclose(out, Around(FAULTS[fault])(x), atol=1e-6)
    (got,) = torch.autograd.grad(out.sum(), leaf)
    # the derivative of the network at the stepped point
    (wanted,) = torch.autograd.grad(plain(FAULTS[fault](x).detach() + (same - x)).sum(), same)
    assert torch.allclose(got, wanted, atol=1e-5)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_without_gradients_is_mended_by_straight_through(fault):
    x, y = images()
    made = mend(Around(FAULTS[fault]), x, y, rng=Rng(0))
    assert made.blind_before == 1 and made.blind == 0
    assert made.remedies == ("straight-through gradients",)


def test_logits_that_are_far_apart_are_divided_and_nothing_else():
    x, y = images()
    made = mend(Smooth(1e4), x, y, rng=Rng(0))
    assert made.blind_before > 0.5 and made.blind == 0
    assert len(made.remedies) == 1 and made.remedies[0].startswith("logits divided by")
    lead = made.network(x).topk(2).values.diff().abs()
    assert lead.quantile(0.9).item() == pytest.approx(10, rel=1e-3)
    assert torch.equal(made.network(x).argmax(1), y)


def test_probabilities_become_their_logarithm_even_where_gradients_exist():
    x, y = images()
    made = mend(Around(lambda x: x, lambda z: z.softmax(1)), x, y, rng=Rng(0))
    assert made.remedies == ("the logarithm of the probabilities",)
    assert torch.allclose(made.network(x), Smooth()(x).log_softmax(1), atol=1e-5)


def test_an_honest_model_is_left_as_it_is():
    x, y = images()
    network = Smooth()
    made = mend(network, x, y, rng=Rng(0))
    assert made.network is network and made.remedies == () and made.blind_before == 0


def test_what_cannot_be_mended_says_so():
    x, y = images()
    through_numpy = Around(lambda x: torch.from_numpy(x.detach().cpu().numpy().copy()))
    made = mend(through_numpy, x, y, rng=Rng(0))
    assert made.blind == made.blind_before == 1


def test_sigmoid_outputs_are_inverted_even_where_gradients_exist():
    x, y = images()
    made = mend(Around(lambda x: x, torch.sigmoid), x, y, rng=Rng(0))
    assert made.remedies == ("the logits before the sigmoid",) and made.blind_before == 0
    assert torch.allclose(made.network(x), Smooth()(x), atol=1e-5)


@pytest.mark.parametrize(
    "sigmoid", [torch.sigmoid, nn.Sigmoid(), lambda z: z.sigmoid()], ids=["function", "module", "method"]
)
def test_of_sigmoid_outputs_that_have_rounded_the_logits_are_had_back(sigmoid):
    x, y = images()
    saturated = Around(lambda x: x, lambda z: sigmoid(8 * z))
    assert (saturated(x) == 1).any()
    made = mend(saturated, x, y, rng=Rng(0))
    assert made.remedies == ("the logits before the sigmoid", "straight-through gradients")
    assert torch.equal(made.network(x), 8 * Smooth()(x))


def test_a_sigmoid_written_out_by_hand_is_inverted_where_it_has_not_rounded():
    x, y = images()
    made = mend(Around(lambda x: x, lambda z: 1 / (1 + (-2 * z).exp())), x, y, rng=Rng(0))
    assert made.remedies == ("the logits before the sigmoid",)
    assert torch.allclose(made.network(x), 2 * Smooth()(x), atol=1e-3)


def test_logits_that_happen_to_lie_between_0_and_1_are_left_alone():
    x, y = images()
    logits = Smooth()(x)
    low, high = logits.min().item(), logits.max().item()
    few = Around(lambda x: x, lambda z: (z - low) / (high - low))
    assert mend(few, x[:5], y[:5], rng=Rng(0)).network is few
    narrow = Around(lambda x: x, lambda z: 0.3 + 0.4 * (z - low) / (high - low))
    assert mend(narrow, x, y, rng=Rng(0)).network is narrow


def test_a_network_in_inference_mode_answers_and_is_attacked_like_any_other():
    x, y = images()

    class Inference(Smooth):
        @torch.inference_mode()
        def forward(self, x):
            return super().forward(x)

    pgd = attack("pgd", eps=0.03, steps=10)
    made = adapt(Inference(), x, y, rng=Rng(0))
    model = Classifier(made.network, decides=made.decides)
    logits = model.logits(x)
    assert torch.equal(logits, Smooth()(x)) and not logits.is_inference()
    wanted = pgd(Classifier(Smooth()), x, y, rng=Rng(1))
    found = [Smooth()(x_adv).argmax(1) for x_adv in (wanted, pgd(model, x, y, rng=Rng(1)))]
    assert torch.equal(*found) and (found[0] != y).any()
    assert torch.inference_mode.__enter__.__module__ == "torch.autograd.grad_mode"


@pytest.mark.parametrize(
    ("network", "scored"),
    [
        (Smooth(1e4), Smooth(1e4)),
        (Around(FAULTS["rounded"]), Around(FAULTS["rounded"])),
        (Around(lambda x: x, lambda z: (1e3 * z).softmax(1)), Smooth()),
        (Around(lambda x: x, torch.sigmoid), Smooth()),
        (Around(lambda x: x, lambda z: (1e3 * z).sigmoid()), Smooth()),
        (Around(inference_mode), Smooth()),
    ],
    ids=["scaled", "rounded", "saturated softmax", "sigmoid", "saturated sigmoid", "inference mode"],
)
def test_pgd_on_the_mended_model_does_what_it_does_on_the_honest_one(network, scored):
    x, y = images()
    pgd = attack("pgd", eps=0.03, steps=20)
    honest = Classifier(Smooth())
    broken = (honest.logits(pgd(honest, x, y, rng=Rng(1))).argmax(1) != y).double().mean().item()
    made = mend(network, x, y, rng=Rng(0))
    x_adv = pgd(Classifier(made.network), x, y, rng=Rng(1))
    found = (scored(x_adv).argmax(1) != y).double().mean().item()
    assert 0.2 < broken < 1
    assert abs(found - broken) <= 1 / N + 1e-9


def test_the_expectation_is_the_log_of_the_mean_probability():
    x, _ = images()
    rng, network = Rng(7).for_batch(N), Noisy(0.3)
    mean = Expectation(network, 5)
    mean.redraw(rng)
    each = []
    for draw in range(5):
        network.redraw(rng.child("expectation", draw))
        each.append(network(x).softmax(1))
    assert torch.allclose(mean(x).exp(), torch.stack(each).mean(0), atol=1e-6)
    assert mean.copies == 5


def test_its_gradient_is_that_of_minus_the_log_of_the_mean_probability():
    x, y = images()
    rng, network = Rng(7).for_batch(N), Noisy(0.3)
    model = Classifier(Expectation(network, 3))
    got = model.input_gradient(
        x, y, lambda z, y: nn.functional.cross_entropy(z, y, reduction="none"), rng=rng
    )
    leaf = x.clone().requires_grad_()
    total = 0
    for draw in range(3):
        network.redraw(rng.child("expectation", draw))
        total = total + network(leaf).softmax(1).gather(1, y[:, None])[:, 0]
    (wanted,) = torch.autograd.grad(-(total / 3).log().sum(), leaf)
    assert torch.allclose(got.gradient, wanted, atol=1e-6)


def test_noisier_models_get_more_draws_and_quiet_ones_a_single_one():
    x, y = images()
    numbers = [enough_draws(Noisy(sigma), x, y, rng=Rng(0).for_batch(N)) for sigma in (0.0, 0.3, 2.0)]
    assert numbers[0].number == 1 and numbers[0].cosine == pytest.approx(1)
    assert numbers[0].number <= numbers[1].number < numbers[2].number
    assert numbers[1].converged and not math.isnan(numbers[2].cosine)


class Own(nn.Module):
    """Draws from a global generator."""

    def __init__(self, draw):
        super().__init__()
        self.network, self.draw = Smooth(), draw

    def forward(self, x):
        return self.network(x) + self.draw(x)


def _torch(x):
    return torch.randn(len(x), CLASSES)


def _numpy(x):
    import numpy as np

    return torch.from_numpy(np.random.randn(len(x), CLASSES)).float()  # noqa: NPY002


def _python(x):
    import random

    return random.random() * torch.ones(len(x), CLASSES)


class OwnGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.network, self.generator = Smooth(), torch.Generator().manual_seed(0)

    def forward(self, x):
        return self.network(x) + torch.randn(len(x), CLASSES, generator=self.generator)


@pytest.mark.parametrize("network", [Own(_torch), Own(_numpy), Own(_python), OwnGenerator()])
def test_a_model_that_draws_by_itself_is_noticed(network):
    assert draws_by_itself(network, images()[0][:2])


def test_a_deterministic_model_is_not_taken_for_a_random_one():
    assert not draws_by_itself(Smooth(), images()[0][:2])


@pytest.mark.parametrize("draw", [_torch, _numpy, _python])
def test_global_draws_are_set_by_redraw_and_the_generators_put_back(draw):
    x, _ = images()
    network = GlobalDraws(Own(draw))
    before = torch.random.get_rng_state()
    outputs = []
    for seed in (0, 0, 1):
        network.redraw(Rng(seed).for_batch(N))
        outputs.append(network(x))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_base_is_mended_inside_its_defense_and_its_draws():
    x, y = images()

    class Coin(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Smooth(1e4)

        def forward(self, x):
            return self.network(x) * (1 + 0.01 * torch.rand(len(x), 1))

    made = adapt(GlobalDraws(Coin()), x, y, rng=Rng(0))
    assert isinstance(made.network, Expectation) and isinstance(made.network.network, GlobalDraws)
    assert isinstance(made.network.network.network, Mended)
    assert made.remedies[0].startswith("logits divided")
    assert made.draws is not None and made.draws.converged


def test_a_given_number_of_draws_is_taken_without_trying():
    x, y = images()
    made = adapt(Noisy(0.3), x, y, rng=Rng(0), draws=7)
    assert made.draws.number == made.network.draws == 7 and made.draws.cosine > 0.9


class Wrapping(nn.Module):
    """Counts in bytes that overflow: a cast carried through as a float would not."""

    def __init__(self):
        super().__init__()
        self.network = Smooth()

    def forward(self, x):
        return self.network(((x * 255).byte() + 40).float() / 255)


def test_a_remedy_that_would_change_a_value_changes_only_the_gradient():
    x, _ = images()
    mended = Mended(Wrapping(), straight_through=True)
    leaf = x.clone().requires_grad_()
    out = mended(leaf)
    assert torch.allclose(out, Wrapping()(x), atol=1e-6)
    assert torch.autograd.grad(out.sum(), leaf)[0].abs().amax() > 0


def test_a_network_that_switches_gradients_itself_keeps_the_switch_as_it_was():
    x, y = images()

    class Purifies(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Smooth()

        def forward(self, x):
            with torch.enable_grad():
                z = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(self.network(z).logsumexp(1).sum(), z)
            return self.network(x - 1e-3 * gradient.sign())

    mend(Purifies(), x, y, rng=Rng(0))
    with torch.no_grad():
        Mended(Purifies(), straight_through=True)(x)
        assert not torch.is_grad_enabled()


def test_a_remedy_that_does_not_fit_a_network_is_left_out():
    x, _ = images()

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.linspace(0, 1, 16))
            self.network = Smooth()

        def forward(self, x):
            return self.network(self.table[(x * 15).round().long()])

    made = mend(Looks(), x, Looks()(x).argmax(1), rng=Rng(0))
    assert made.blind_before == 1 and made.remedies in ((), ("straight-through gradients",))


def test_a_declared_stochastic_network_is_mended_inside_its_draws():
    x, y = images()

    class Saturated(Noisy):
        def forward(self, x):
            return 1e4 * super().forward(x)

    made = adapt(Saturated(0.01), x, y, rng=Rng(0))
    assert made.remedies and made.remedies[0].startswith("logits divided")
    assert isinstance(made.network, Expectation) and made.network.network.stochastic
    assert isinstance(made.decides, Expectation) and isinstance(made.decides.network, Saturated)


def test_who_decides_is_the_network_without_remedies():
    x, y = images()
    network = Smooth(1e4)
    made = adapt(network, x, y, rng=Rng(0))
    model = Classifier(made.network, decides=made.decides)
    assert made.decides is network
    with model.frozen():
        assert torch.equal(model.logits(x), network(x))
        assert model.proposes
        beside = model.input_gradient(x, y, lambda z, _: z.amax(1)).logits
    assert torch.allclose(beside, made.network(x), atol=1e-4)


def test_a_class_that_is_ruled_out_leaves_the_gradient_of_a_mean_finite():
    x, y = images()

    class Ruled(Noisy):
        def forward(self, x):
            logits = super().forward(x)
            return torch.cat([logits, torch.full_like(logits[:, :1], -torch.inf)], 1)

    model = Classifier(Expectation(Ruled(0.1), 3))
    model.input_gradient(
        x, y, lambda z, y: nn.functional.cross_entropy(z, y, reduction="none"), rng=Rng(0).for_batch(N)
    )
    assert model.ledger.padded("bad_gradients", N).sum() == 0


def _kept(network, x, rng):
    """Bytes that a forward pass keeps for its backward pass, weights aside."""
    own, kept = {weight.data_ptr() for weight in network.parameters()}, {}

    def pack(tensor):
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor  # held, so that no other takes its place
        return tensor

    network.redraw(rng)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(x.clone().requires_grad_())
    return sum(tensor.nbytes for tensor in kept.values())


@pytest.mark.parametrize(
    "make", [lambda: Noisy(0.3), lambda: GlobalDraws(Own(_torch))], ids=["own", "global"]
)
def test_draws_that_do_not_fit_the_memory_together_give_the_same_gradient(make):
    x, y = images()
    rng = Rng(7).for_batch(N)
    found = []
    for batch_size in (1000, 5):
        model = Classifier(Expectation(make(), 8), batch_size=batch_size, accelerate=False)
        found.append(model.input_gradient(x[:1], y[:1], lambda z, _: z[:, 0], rng=rng.select(slice(1))))
        assert model.ledger.padded("backwards", 1).item() == 8
    assert torch.equal(found[0].logits, found[1].logits)
    assert torch.allclose(found[0].gradient, found[1].gradient, atol=1e-7)


def test_draws_that_do_not_fit_the_memory_are_kept_one_at_a_time():
    x, rng = images()[0], Rng(7).for_batch(N)
    whole, spared = Expectation(Noisy(0.3), 16), Expectation(Noisy(0.3), 16)
    whole.at_once, spared.at_once = 16 * N, 16 * N - 1
    assert _kept(spared, x, rng) < _kept(whole, x, rng) / 8


def test_a_jacobian_of_several_columns_goes_through_spared_draws():
    x, _ = images()
    rng, columns = Rng(7).for_batch(2), torch.tensor([[0, 1, 2], [3, 2, 1]])
    found = []
    for batch_size in (1000, 4):
        network = Expectation(Noisy(0.3), 6)
        model = Classifier(
            network, batch_size=batch_size, accelerate=False, decides=Expectation(Noisy(0.3), 6)
        )
        found.append(model.jacobian(x[:2], columns, rng=rng)[1])
    assert torch.allclose(*found, atol=1e-6)


def test_memory_that_runs_out_for_one_image_leaves_the_graphs_of_its_draws(caplog):
    x, y = images()

    class Tight(Noisy):
        def forward(self, x):
            held.append(torch.is_grad_enabled())
            if self.limited and len(held) > 3 and not spared():
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().forward(x)

    held, network = [], Expectation(Tight(0.3), 8)
    network.network.limited = True

    def spared():
        return network.at_once < 8

    model = Classifier(network, batch_size=8, accelerate=False)
    found = model.input_gradient(x[:1], y[:1], lambda z, _: z[:, 0], rng=Rng(0).for_batch(1))
    assert model.batch_size == 4 and found.gradient.abs().sum() > 0
