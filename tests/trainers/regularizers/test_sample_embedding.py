from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.registry import build, names
from robust_eval.rng import Rng
from trainers import train
from trainers.objective import Objective
from trainers.optim import make_optimizer
from trainers.regularizers.erm import ERM
from trainers.regularizers.sample_embedding import SampleEmbedding
from trainers.watch import accuracy

N, IMAGES = 16, 40
ROWS = torch.tensor([3, 38, 5, 7, 11, 0, 24, 30, 2, 9, 12, 19, 33, 21, 8, 16])
"""Which images of the training set are in the batch."""


@pytest.fixture
def table(network):
    """Return a table that is drawn."""
    return lambda **fields: SampleEmbedding(**{"std": 0.5} | fields).companion(network, IMAGES, rng=Rng(4))


def value(method, network, x, y, companion, progress=0.0):
    return method.loss(network, x, y, rng=Rng(1).rows(ROWS), progress=progress, companion=companion)


def hooked(network, x, y, added, layer):
    """The cross-entropy with something added to what a layer reads."""
    handle = layer.register_forward_pre_hook(lambda _, given: (given[0] + added,))
    try:
        return functional.cross_entropy(network(x), y)
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("progress", "strength"), [(0.0, 1.0), (0.4, 1.0), (0.7, 0.5), (0.94, 0.1), (1.0, 0.0)]
)
def test_the_head_reads_features_and_the_vector_of_the_image(network, x, y, table, progress, strength):
    made, method = table(), SampleEmbedding(share=0.4)
    expected = hooked(network, x, y, strength * made.weight[ROWS], network.head[1])
    torch.testing.assert_close(value(method, network, x, y, made, progress), expected)
    plain = functional.cross_entropy(network(x), y)
    assert torch.allclose(expected, plain) is (strength == 0)


@pytest.mark.parametrize("name", names("architecture"))
def test_every_architecture_ends_in_the_layer_that_the_vectors_go_into(name):
    fields = {"width": 4} if "width" in (made := build("architecture", name, {})).__dataclass_fields__ else {}
    made = replace(made, **fields) if fields else made
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = made.build(channels=3, classes=5).eval()
    x, y = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 3])
    method = SampleEmbedding(std=0.3)
    table = method.companion(network, 2, rng=Rng(0))
    with torch.no_grad():
        found = method.loss(
            network, x, y, rng=Rng(1).rows(torch.tensor([1, 0])), progress=0.0, companion=table
        )
        head = network.get_submodule(made.head.rpartition(".")[0])
        torch.testing.assert_close(
            found, hooked(network, x, y, table.weight[[1, 0]], head), rtol=1e-4, atol=1e-5
        )


def test_vectors_begin_at_zero_where_the_loss_is_that_of_erm(loss, network, x, y):
    table = SampleEmbedding().companion(network, IMAGES, rng=Rng(0))
    assert table.weight.shape == (IMAGES, network.head[1].in_features) and not table.weight.any()
    assert value(SampleEmbedding(), network, x, y, table).item() == loss(ERM(), network, x, y).item()


def test_drawn_vectors_have_the_spread_that_was_asked_for(network):
    method = SampleEmbedding(std=0.01)
    drawn, again = (method.companion(network, 500, rng=Rng(0)).weight for _ in range(2))
    assert drawn.std().item() == pytest.approx(0.01, rel=0.02)
    assert torch.equal(drawn, again)


def test_a_row_has_the_gradient_of_its_own_image_and_others_have_none(network, x, y, table):
    network.eval()
    made = table(std=0.0)
    value(SampleEmbedding(rate=1.0), network, x, y, made).backward()
    others = [i for i in range(IMAGES) if i not in ROWS.tolist()]
    assert made.weight.grad[ROWS].abs().sum(1).min() > 0
    assert not made.weight.grad[others].any()
    # the chain rule: W^T (softmax - target) / n
    left = torch.softmax(network(x), 1) - functional.one_hot(y, 5)
    torch.testing.assert_close(made.weight.grad[ROWS], left @ network.head[1].weight / N)


def test_the_rate_is_of_the_rows_alone(network, x, y, table):
    network.eval()
    found = []
    for rate in (1.0, 6.0):
        network.zero_grad()
        made = table()
        value(SampleEmbedding(rate=rate), network, x, y, made).backward()
        found.append((made.weight.grad, [weight.grad.clone() for weight in network.parameters()]))
    (slow, first), (fast, second) = found
    torch.testing.assert_close(fast, 6 * slow)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
def test_rows_outside_the_batch_stay_under_momentum_and_decay(recipe, network, x, y, optimizer):
    method = SampleEmbedding(std=0.5)
    made = recipe(method, optimizer=optimizer, momentum=0.9, weight_decay=0.1, lr=0.01)
    table = method.companion(network, IMAGES, rng=Rng(0))
    objective = Objective(network, method, companion=table)
    steps = make_optimizer(made, network.parameters(), table)
    for step in range(4):
        rows = ROWS[4 * step : 4 * step + 4]
        before = table.weight.detach().clone()
        steps.zero_grad()
        objective(x[:4], y[:4], Rng(0).child(step).rows(rows), 0.0).backward()
        steps.step()
        changed = (table.weight != before).any(1)
        assert changed.nonzero()[:, 0].tolist() == rows.sort().values.tolist()


def test_under_plain_steps_a_row_moves_against_its_gradient(recipe, network, x, y):
    method = SampleEmbedding(std=0.5, rate=3.0)
    table = method.companion(network, IMAGES, rng=Rng(0))
    steps = make_optimizer(recipe(method, lr=0.2), network.parameters(), table)
    before = table.weight.detach().clone()
    value(method, network, x, y, table).backward()
    steps.step()
    torch.testing.assert_close(table.weight.detach(), before - 0.2 * table.weight.grad)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("adversarial", {"then": SampleEmbedding(), "probability": 0.0}),
        ("together", {"of": (SampleEmbedding(), build("regularizer", "dropout", {"probability": 0.0}))}),
    ],
)
def test_inside_another_method_it_has_its_table(network, x, y, table, name, fields):
    around = build("regularizer", name, fields)
    stage = around.stages()[0].regularizer
    assert stage.companion(network, IMAGES, rng=Rng(0)).weight.shape == table().weight.shape
    made = table()
    assert value(around, network, x, y, made).item() == pytest.approx(
        value(SampleEmbedding(), network, x, y, made).item(), rel=1e-5
    )


def test_what_rows_have_fitted_is_not_said_to_be_memorised(recipe, architecture, digits):
    """Random labels on a network too weak to learn them: rows do, and neither the log nor what comes back has them."""
    few = digits.first(100)
    labels = torch.randint(10, (100,), generator=torch.Generator().manual_seed(0))
    noisy = replace(few, labels=labels, true_labels=few.labels)
    made = recipe(
        SampleEmbedding(share=0.99, rate=5000.0),
        freeze=("stem", "stage1", "stage2"),
        architecture=architecture(width=8),
        epochs=15,
        batch_size=50,
        lr=0.02,
        validation=0.0,
    )
    trained = train(made, noisy, device="cpu", report=lambda *_: None)
    rows = trained.history
    assert rows[-2]["loss"] < 0.3 < 2 < rows[0]["loss"]
    assert rows[-2]["corrupted_accuracy"] < 0.4
    wrong = noisy[noisy.corrupted.nonzero()[:, 0]]
    assert rows[-1]["corrupted_accuracy"] == accuracy(trained.network, wrong)
    plain = made.architecture.build(channels=1, classes=10)
    assert list(trained.network.state_dict()) == list(plain.state_dict())


def test_it_works_in_mixed_and_double_precision(network, x, y, table, check_precisions):
    made = table()
    with torch.autocast("cpu", torch.bfloat16):
        assert value(SampleEmbedding(), network, x, y, made).isfinite()
    check_precisions(SampleEmbedding())
    double = SampleEmbedding(std=0.5).companion(network, IMAGES, rng=Rng(4))
    assert value(SampleEmbedding(), network, x.double(), y, double).dtype == torch.float64


def test_a_network_without_a_linear_layer_is_refused():
    with pytest.raises(ConfigError, match="sample_embedding: expected a network that ends in a linear layer"):
        SampleEmbedding().companion(nn.Conv2d(3, 4, 3), IMAGES, rng=Rng(0))
