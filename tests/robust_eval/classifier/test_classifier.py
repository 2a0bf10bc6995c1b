from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier, Rng
from robust_eval.classifier import Ledger, condensed, frozen, misclassified
from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import ConfigError, RobustEvalError
from robust_eval.losses import cross_entropy
from robust_eval.types import StochasticModule

MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.4, 0.3]
N, SHAPE, CLASSES = 9, (3, 4, 4), 5


class Quadratic(nn.Module):
    """Logits ``0.5 |x - a_k|²``, so that the gradient of logit k is ``x - a_k``; keeps what it was given."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.a = nn.Parameter(torch.rand(CLASSES, *SHAPE, generator=generator, dtype=torch.float64))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return 0.5 * ((x[:, None] - self.a) ** 2).flatten(2).sum(2)


class Drawn(StochasticModule):
    """Logits that are the draws themselves plus the mean pixel."""

    def __init__(self, copies=1):
        super().__init__()
        self.copies = copies
        self.rows = []

    def redraw(self, rng):
        self.draws = rng.uniform(CLASSES)
        self.rows.append(len(self.draws))

    def forward(self, x):
        return self.draws + x.flatten(1).mean(1, keepdim=True)


@pytest.fixture
def x():
    return torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def y():
    return torch.arange(N) % CLASSES


def first_logit(logits, y):
    return logits[:, 0]


def test_the_input_gradient_is_the_closed_form_one(x, y):
    network = Quadratic()
    logits, gradient = Classifier(network).input_gradient(x, y, lambda z, y: z.gather(1, y[:, None])[:, 0])
    torch.testing.assert_close(gradient, x - network.a[y])
    torch.testing.assert_close(logits, network(x).detach())


def test_the_jacobian_holds_the_gradient_of_each_chosen_logit(x):
    network = Quadratic()
    classes = torch.stack([torch.arange(N) % CLASSES, (torch.arange(N) + 2) % CLASSES], 1)
    logits, jacobian = Classifier(network, batch_size=4).jacobian(x, classes)
    torch.testing.assert_close(jacobian, x[:, None] - network.a[classes].detach())
    torch.testing.assert_close(logits, network(x).detach())


def test_an_example_has_the_gradient_of_its_own_loss_not_of_the_mean(x, y):
    whole = Classifier(Quadratic()).input_gradient(x, y, first_logit).gradient
    alone = Classifier(Quadratic()).input_gradient(x[:1], y[:1], first_logit).gradient
    torch.testing.assert_close(whole[:1], alone)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_the_batch_size_changes_no_result_and_bounds_what_the_network_sees(x, y, batch_size):
    network = Quadratic()
    classifier, reference = Classifier(network, batch_size=batch_size), Classifier(Quadratic())
    classes = y[:, None]
    assert torch.equal(classifier.logits(x), reference.logits(x))
    for got, expected in [
        (classifier.input_gradient(x, y, first_logit), reference.input_gradient(x, y, first_logit)),
        (classifier.jacobian(x, classes), reference.jacobian(x, classes)),
    ]:
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert max(map(len, network.seen)) == min(batch_size, N)
    assert torch.equal(torch.cat(network.seen), torch.cat([x, x, x]))


@pytest.mark.parametrize(("batch_size", "copies", "part"), [(8, 2, 4), (8, 3, 2), (4, 16, 1), (64, 4, 9)])
def test_batches_are_split_by_the_copies_a_network_makes(x, batch_size, copies, part):
    network = Drawn(copies)
    Classifier(network, batch_size=batch_size).logits(x, rng=Rng(0))
    assert max(network.rows) == part and sum(network.rows) == N


def test_logits_carry_no_graph_and_the_input_is_left_alone(x, y):
    before = x.clone().requires_grad_()
    classifier = Classifier(Quadratic())
    assert not classifier(before).requires_grad
    logits, gradient = classifier.input_gradient(before, y, first_logit)
    assert not logits.requires_grad and not gradient.requires_grad
    assert before.grad is None and torch.equal(before, x)


def test_gradients_are_there_even_where_the_caller_switched_them_off(x, y):
    with torch.no_grad():
        assert Classifier(Quadratic()).input_gradient(x, y, first_logit).gradient.abs().sum() > 0


def test_no_images_give_no_logits_of_the_right_width(x, y):
    classifier = Classifier(Quadratic())
    assert classifier(x[:0]).shape == (0, CLASSES)
    assert classifier.input_gradient(x[:0], y[:0], first_logit).gradient.shape == (0, *SHAPE)


def test_mean_and_std_are_put_inside_the_model(x, y):
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (MEAN, STD))
    network = Quadratic()
    classifier = Classifier(network, mean=MEAN, std=STD)
    torch.testing.assert_close(
        classifier(x), network((x - mean) / std).detach(), rtol=1e-6, atol=1e-6
    )  # the constants are float32
    inside = classifier.input_gradient(x, y, first_logit).gradient
    torch.testing.assert_close(inside, ((x - mean) / std - network.a[0]).detach() / std, rtol=1e-6, atol=1e-6)


def test_mean_without_std_is_refused():
    with pytest.raises(ValueError, match="expected mean and std together, got mean="):
        Classifier(Quadratic(), mean=MEAN)


def test_normalisation_around_a_stochastic_network_is_refused():
    with pytest.raises(ConfigError, match="expected it inside a stochastic network"):
        Classifier(Drawn(), mean=MEAN, std=STD)


# Normalised networks


class Staged(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)])

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


def test_the_stages_of_a_normalised_network_compose_to_its_forward():
    torch.manual_seed(0)
    network, x = Normalized(Staged(), MEAN, STD), torch.rand(2, *SHAPE)
    h = x
    for stage in network.stages:
        h = stage(h)
    torch.testing.assert_close(h, network(x))


def test_normalisation_leaves_no_trace_in_the_weights():
    assert all(key.startswith("network.") for key in Normalized(Staged(), MEAN, STD).state_dict())


def test_normalisation_follows_the_images_to_their_device():
    x = torch.empty(2, *SHAPE, device="meta")
    assert Normalized(nn.Flatten(), MEAN, STD)(x).device.type == "meta"


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5], [0.5, 0.5], "expected as many means as standard deviations"),
        ([], [], "expected as many means as standard deviations"),
        ([0.5], [0.0], "expected every std > 0, got"),
    ],
)
def test_normalisation_that_makes_no_sense_is_refused(mean, std, message):
    with pytest.raises(ConfigError, match=message):
        Normalized(Staged(), mean, std)


def test_normalisation_for_another_number_of_channels_is_refused():
    with pytest.raises(ConfigError, match="got 3 means for images with 1 channels"):
        Normalized(Staged(), MEAN, STD)(torch.rand(2, 1, 4, 4))


# Stochastic networks


def test_a_stochastic_network_without_rng_is_an_error_that_says_so(x, y):
    classifier = Classifier(Drawn())
    assert classifier.stochastic
    for call in (
        lambda: classifier.logits(x),
        lambda: classifier.input_gradient(x, y, first_logit),
        lambda: classifier.jacobian(x, y[:, None]),
    ):
        with pytest.raises(ValueError, match="this network is stochastic: expected rng=Rng"):
            call()


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_draws_of_a_row_depend_on_its_id_and_the_stream_only(x, batch_size):
    whole = Classifier(Drawn()).logits(x, rng=Rng(0))
    perm = torch.randperm(N, generator=torch.Generator().manual_seed(3))[:5]
    classifier = Classifier(Drawn(), batch_size=batch_size)
    assert torch.equal(classifier.logits(x[perm], rng=Rng(0).rows(perm)), whole[perm])
    assert not torch.equal(classifier.logits(x, rng=Rng(0).child(1)), whole)


# What a call costs


def test_the_ledger_counts_forwards_and_backwards_by_row_id(x, y):
    classifier = Classifier(Quadratic(), batch_size=4)
    ids = torch.arange(N) * 3
    classifier.logits(x, rng=Rng(0).rows(ids))
    classifier.input_gradient(x[:2], y[:2], first_logit, rng=Rng(0).rows(ids[:2]))
    classifier.jacobian(x[1:2], torch.tensor([[0, 3, 4]]), rng=Rng(0).rows(ids[1:2]))
    assert classifier.ledger["forwards"][ids].tolist() == [2, 3, 1, 1, 1, 1, 1, 1, 1]
    assert classifier.ledger["backwards"][ids].tolist() == [1, 4, 0, 0, 0, 0, 0, 0, 0]
    assert classifier.ledger["forwards"].sum() == 12  # nothing between the ids
    assert classifier.ledger["zero_gradients"].sum() == classifier.ledger["bad_gradients"].sum() == 0


def test_zero_and_bad_gradients_are_counted_by_row_and_bad_entries_become_zero(x, y):
    def loss(logits, y):
        weight = torch.ones(len(logits), dtype=logits.dtype)
        weight[2] = 0.0
        weight[4] = torch.nan
        weight[5] = torch.inf
        return logits[:, 0] * weight

    classifier = Classifier(Quadratic())
    gradient = classifier.input_gradient(x, y, loss, rng=Rng(0)).gradient
    assert classifier.ledger["zero_gradients"].nonzero().flatten().tolist() == [2]
    assert classifier.ledger["bad_gradients"].nonzero().flatten().tolist() == [4, 5]
    assert gradient.isfinite().all() and not gradient[[2, 4, 5]].any() and gradient[3].all()


def test_calls_without_a_stream_are_not_counted(x, y):
    classifier = Classifier(Quadratic())
    classifier.input_gradient(x, y, first_logit)
    assert classifier.ledger["forwards"].numel() == 0


def test_the_ledger_knows_in_what_batches_and_precisions_the_network_was_asked():
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(64, 4)
    )
    x, y = torch.rand(7, 3, 8, 8), torch.arange(7) % 4
    classifier, rng = Classifier(network, batch_size=3, precision="bf16"), Rng(0).for_batch(7)
    classifier.logits(x, rng=rng)
    classifier.proposal(x[:2], rng=rng.select(slice(2)))
    classifier.input_gradient(x[:4], y[:4], cross_entropy, rng=rng.select(slice(4)))
    classifier.jacobian(x[:3], torch.arange(2).expand(3, 2), rng=rng.select(slice(3)))
    classifier.logits(x)  # nobody's
    assert classifier.ledger.batches == {
        ("forward", "fp32", 3): 2,
        ("forward", "fp32", 1): 1,
        ("forward", "bf16", 2): 1,
        ("forward", "bf16", 3): 2,
        ("forward", "bf16", 1): 1,
        ("backward", "bf16", 3): 3,
        ("backward", "bf16", 1): 1,
    }
    sent = dict.fromkeys(("forward", "backward"), 0)
    for (way, _, size), calls in classifier.ledger.batches.items():
        sent[way] += size * calls
    assert sent == {way: int(classifier.ledger[f"{way}s"].sum()) for way in sent}


def test_batches_are_condensed_into_calls_and_images_by_powers_of_two():
    batches = Counter({("forward", "bf16", 5): 2, ("forward", "bf16", 7): 1, ("backward", "fp32", 64): 3})
    assert condensed(batches) == {"forward bf16": {"4": [3, 17]}, "backward fp32": {"64": [3, 192]}}


def test_a_ledger_pads_rows_it_never_saw_and_cuts_those_not_asked_for():
    ledger = Ledger()
    ledger.add("forwards", torch.tensor([0, 3]), 2)
    assert ledger.padded("forwards", 6).tolist() == [2, 0, 0, 2, 0, 0]
    assert ledger.padded("forwards", 2).tolist() == [2, 0]
    assert ledger.padded("backwards", 3).tolist() == [0, 0, 0]


def test_a_model_cut_off_from_its_input_is_an_error_that_says_where_to_look(x, y):
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)

    classifier = Classifier(Cut())
    assert classifier(x).shape == (N, 48)
    for call in (
        lambda: classifier.input_gradient(x, y, first_logit),
        lambda: classifier.jacobian(x, y[:, None]),
    ):
        with pytest.raises(RobustEvalError, match=r"look for detach\(\), no_grad, inference_mode or numpy"):
            call()


# Putting back what was touched


def mixed_modes():
    """A network in training mode with one part in eval mode and one frozen weight."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2)
    )
    network.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    return network


def state(network):
    modes = [module.training for module in network.modules()]
    return modes, [weight.requires_grad for weight in network.parameters()]


def test_inside_everything_is_in_eval_mode_without_weight_gradients_and_outside_as_it_was():
    network = mixed_modes()
    before = state(network)
    with Classifier(network).frozen() as classifier:
        with classifier.frozen():
            pass
        modes, needs = state(network)
        assert not any(modes) and not any(needs)
    assert state(network) == before


def test_modes_and_weights_are_restored_when_the_body_raises():
    network = mixed_modes()
    before, classifier = state(network), Classifier(network)
    for context in (classifier.frozen(), frozen(network), classifier.frozen()):
        with pytest.raises(RuntimeError, match="inside"), context:
            raise RuntimeError("inside")
        assert state(network) == before


def test_a_call_leaves_modes_weights_and_running_statistics_alone():
    network, x = mixed_modes(), torch.rand(4, 3, 4, 4)
    before, weights = state(network), {k: v.clone() for k, v in network.state_dict().items()}
    classifier = Classifier(network)
    classifier(x)
    classifier.input_gradient(x, torch.tensor([0, 1, 0, 1]), first_logit)
    assert state(network) == before
    assert all(torch.equal(v, weights[k]) for k, v in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


# Who is fooled


def test_misclassified_is_a_wrong_argmax_or_an_output_that_predicts_nothing():
    inf, nan = torch.inf, torch.nan
    logits = torch.tensor([[2, 1], [1, 2], [nan, 1], [nan, nan], [inf, 1], [1, -inf], [-inf, -inf]])
    right = torch.zeros(len(logits), dtype=torch.int64)
    assert misclassified(logits, right).tolist() == [False, True, True, True, True, False, True]
    # the same rows that a softmax cannot turn into probabilities
    nothing = ~functional.softmax(logits, 1).isfinite().all(1)
    assert torch.equal(misclassified(logits, right) & misclassified(logits, right + 1), nothing)


def test_a_network_that_was_cast_may_be_cast_again():
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).half())
    model.network.double()
    assert model(torch.rand(2, 3, 4, 4)).dtype == torch.float32
