"""Steps on trial: what they say, and that they leave no trace."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval.data import Examples
from robust_eval.errors import CheckpointError, ConfigError
from robust_eval.methods import FORWARD, Architecture, Choice, Reference, Regularizer
from robust_eval.registry import build
from robust_eval.rng import Rng
from trainers.batches import batch_of
from trainers.freezing import frozen_layers
from trainers.objective import Objective
from trainers.optim import make_optimizer
from trainers.processes import set_up, started
from trainers.regularizers.erm import ERM
from trainers.schedule import StageSchedule
from trainers.steps import Steps
from trainers.trial import Trial

BATCHES = torch.arange(32).view(4, 8)


def steps_of(recipe, network, images=32):
    """The steps of a stage, as training has them."""
    frozen_layers(network, recipe.freeze)()
    fabric, rng = started("cpu"), Rng(3).child("stage", 0)
    schedule = StageSchedule.of(
        recipe,
        recipe.regularizer.stages(),
        0,
        images=images,
        cost=8.0,
        done=0.0,
        carried=0.0,
        scheduled_from=0.0,
    )
    companion = recipe.regularizer.companion(network, images, rng=rng)
    optimizer = set_up(make_optimizer(recipe, network.parameters(), companion), fabric)
    cost = recipe.regularizer.evaluations(8)
    objective = Objective(network, recipe.regularizer, recipe.precision, companion)
    steps = Steps(recipe, network, objective, optimizer, fabric, schedule, rng, cost)
    steps.set_rate(recipe.lr)
    return steps


@pytest.fixture
def training(x, y):
    generator = torch.Generator().manual_seed(4)
    return Examples(torch.rand(32, 3, 8, 8, generator=generator), torch.arange(32) % 5, 5)


@pytest.fixture
def held_out(x, y):
    return Examples(x, y, 5)


@pytest.fixture
def steps(recipe, architecture):
    def make(regularizer=None, images=32, **fields):
        made = recipe(regularizer or ERM(), crop=1, flip=True, **fields)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = architecture(width=6, dropout=0.3).build(channels=3, classes=5)
        return steps_of(made, network)

    return make


def advance(steps, training, step, rows):
    return steps.advance(steps.augmented(batch_of(training, rows), step), step)


def everything(steps):
    """All that a step may change, copied."""
    objective, memory = steps.objective, steps.optimizer.state
    return {
        "weights": [weight.detach().clone() for weight in objective.parameters()],
        "buffers": [buffer.clone() for buffer in objective.buffers()],
        "gradients": [None if w.grad is None else w.grad.clone() for w in objective.parameters()],
        "memory": [
            (name, torch.as_tensor(value).clone())
            for weight in objective.parameters()
            if weight in memory
            for name, value in sorted(memory[weight].items())
        ],
        "random": [torch.get_rng_state()],
    }


def assert_same(first, second):
    for part, values in first.items():
        assert len(values) == len(second[part]), part
        for one, other in zip(values, second[part], strict=True):
            if isinstance(one, tuple):
                assert one[0] == other[0]
                one, other = one[1], other[1]
            assert (one is None) is (other is None)
            assert one is None or torch.equal(one, other), part


KINDS = [
    {},
    {"optimizer": "adam"},
    {"optimizer": "rmsprop", "lr": 0.001},
    {"precision": "bf16", "nesterov": False},
    {"freeze": ("stem", "stage2"), "weight_decay": 0.01},
    {"regularizer": build("regularizer", "adversarial", {"steps": 1})},
    {"regularizer": build("regularizer", "manifold_mixup", {})},
    {"regularizer": build("regularizer", "sample_embedding", {"std": 0.1})},
    {"regularizer": build("regularizer", "sample_embedding", {"std": 0.1}), "optimizer": "adam"},
]


@pytest.mark.parametrize("fields", KINDS, ids=str)
@pytest.mark.parametrize("before", [0, 2])
def test_trial_steps_leave_no_trace(steps, training, held_out, fields, before):
    made = steps(**fields)
    for step in range(before):
        advance(made, training, step, BATCHES[step])
    places = [weight.data_ptr() for weight in made.network.parameters()]
    found = everything(made)
    assert bool(found["memory"]) is (before > 0)
    for reference in (None, Reference("held_out", torch.arange(16))):
        scores = Trial(made, training, before, held_out=held_out).deltas(BATCHES, reference)
        assert scores.unique().numel() == 4  # they do say something
        assert_same(found, everything(made))
    assert places == [weight.data_ptr() for weight in made.network.parameters()]


def test_a_trial_that_fails_leaves_no_trace(steps, training):
    class Failing(Regularizer):
        calls = 0

        def loss(self, model, x, y, *, rng, progress):
            self.calls += 1
            if self.calls == 4:
                raise RuntimeError("out of memory")
            return functional.cross_entropy(model(x), y)

    made = steps(Failing())
    found = everything(made)
    with pytest.raises(RuntimeError, match="out of memory"):
        Trial(made, training, 0).deltas(BATCHES)
    assert_same(found, everything(made))


@pytest.mark.parametrize("fields", KINDS, ids=str)
@pytest.mark.parametrize("before", [0, 2])
def test_the_winner_put_back_is_the_step_taken(steps, training, fields, before):
    made, other = steps(**fields), steps(**fields)
    random = torch.get_rng_state()
    for step in range(before):
        advance(made, training, step, BATCHES[step])
    trial = Trial(made, training, before)
    winner = BATCHES[trial.deltas(BATCHES).argmax()]
    tried = trial.step_on(Choice(winner))
    batch = made.augmented(batch_of(training, winner), before)
    losses = [
        made.advance(batch._replace(tried=tried), before),
        advance(made, training, before + 1, BATCHES[3]),
    ]
    found = everything(made)

    torch.set_rng_state(random)
    for step in range(before):
        advance(other, training, step, BATCHES[step])
    expected = [advance(other, training, before, winner), advance(other, training, before + 1, BATCHES[3])]
    assert tried is not None
    assert losses == expected
    assert_same(found, everything(other))


def test_only_the_best_step_may_be_put_back(steps, training):
    trial = Trial(steps(), training, 0)
    assert trial.step_on(Choice(BATCHES[0])) is None
    worst, best = trial.deltas(BATCHES).argsort()[[0, -1]]
    assert trial.step_on(Choice(BATCHES[worst])) is None
    assert trial.step_on(Choice(BATCHES[best], torch.ones(8))) is None
    assert trial.step_on(Choice(BATCHES[best])) is not None


@pytest.mark.parametrize("reference", [None, Reference("held_out", torch.arange(16))])
def test_steps_of_length_zero_change_no_loss(steps, training, held_out, reference):
    made = steps()
    made.set_rate(0.0)
    scores = Trial(made, training, 0, held_out=held_out).deltas(BATCHES, reference)
    assert torch.equal(scores, torch.zeros(4, dtype=torch.float64))


def test_the_scores_do_not_depend_on_the_order_of_the_candidates(steps, training):
    trial, order = Trial(steps(), training, 0), torch.tensor([2, 0, 3, 1])
    assert torch.equal(trial.deltas(BATCHES)[order], trial.deltas(BATCHES[order]))


def test_relative_scores_are_divided_by_the_loss_before(steps, training):
    made = steps()
    trial, losses = Trial(made, training, 0), []
    for rows in BATCHES:
        with torch.random.fork_rng():
            losses.append(copy.deepcopy(made).loss(made.augmented(batch_of(training, rows), 0), 0).item())
    relative = trial.deltas(BATCHES, relative=True)
    torch.testing.assert_close(relative * torch.tensor(losses).double(), trial.deltas(BATCHES))


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(12, 1, bias=False)

    def forward(self, x):
        return self.line(x.flatten(1).double())


class Lines(Architecture):
    def build(self, *, channels, classes):
        return Line()


class Squares(Regularizer):
    """Quadratic in the weights: half the mean square of what is left."""

    def loss(self, model, x, y, *, rng, progress):
        return (model(x)[:, 0] - y).square().mean() / 2


def test_on_a_quadratic_a_score_is_the_closed_form(recipe):
    generator = torch.Generator().manual_seed(5)
    x, y = torch.rand(32, 3, 2, 2, generator=generator), torch.arange(32) % 4
    made = recipe(Squares(), architecture=Lines(), momentum=0.0, nesterov=False, weight_decay=0.0, lr=0.3)
    network = Line().double()
    steps = steps_of(made, network)
    with torch.no_grad():
        network.line.weight.copy_(torch.linspace(-1, 1, 12)[None])
    training = Examples(x, y, 4)
    w = network.line.weight.detach()[0].clone()
    expected = []
    for rows in BATCHES:
        inputs = training.pixels(rows).flatten(1).double()
        gradient = inputs.T @ (inputs @ w - y[rows]) / 8
        hessian = inputs.T @ inputs / 8
        expected.append(0.3 * gradient @ gradient - 0.3**2 / 2 * gradient @ hessian @ gradient)
    torch.testing.assert_close(Trial(steps, training, 0).deltas(BATCHES), torch.stack(expected).double())


@pytest.mark.parametrize("name", ["held_out", "test"])
def test_a_reference_is_judged_by_the_plain_cross_entropy_of_its_images(steps, training, held_out, name):
    # two batches of 8 and 9, as 17 images make of a step's 8
    rows = torch.tensor([3, 1, 4, 15, 9, 2, 6, 5, 8, 7, 0, 10, 11, 12, 13, 14, 3])
    found = Trial(steps(), training, 0, **{name: held_out}).deltas(BATCHES, Reference(name, rows))
    x, y = held_out.pixels(rows), held_out.labels[rows]

    def look(made):
        with torch.random.fork_rng():
            network = copy.deepcopy(made.network)
            losses = [
                functional.cross_entropy(network(x[part]), y[part], reduction="sum")
                for part in (slice(9), slice(9, 17))
            ]
            return sum(losses).item() / 17

    for score, candidate in zip(found.tolist(), BATCHES, strict=True):
        made = steps()
        before = look(made)
        with torch.random.fork_rng():
            advance(made, training, 0, candidate)
        assert score == pytest.approx(before - look(made), abs=1e-5)


def test_it_counts_what_passes_through_the_network(steps, training, held_out):
    trial = Trial(steps(), training, 0, held_out=held_out)
    trial.deltas(BATCHES)
    assert trial.evaluations == pytest.approx(32 + 32 * FORWARD)
    trial.evaluations = 0.0
    best = trial.deltas(BATCHES, Reference("held_out", torch.arange(10))).argmax()
    assert trial.evaluations == pytest.approx(32 + 5 * 10 * FORWARD)
    trial.step_on(Choice(BATCHES[best]))
    assert trial.evaluations == pytest.approx(24 + 5 * 10 * FORWARD)
    attacking = Trial(steps(build("regularizer", "adversarial", {"steps": 2})), training, 0)
    attacking.deltas(BATCHES)
    # two steps of the attack, whole each time, and the last pass without its way back
    assert attacking.evaluations == pytest.approx(32 * 3 + 32 * (2 + FORWARD))


def test_a_reference_that_is_not_there_is_refused(steps, training):
    with pytest.raises(ConfigError, match="expected 2 test images or more to compare steps by, got 0"):
        Trial(steps(), training, 0).deltas(BATCHES, Reference("test", torch.arange(4)))


def test_losses_of_any_number_of_images_are_those_of_their_batch(steps, training):
    made = steps()
    rows = torch.tensor([5, 2, 30, 7, 11])
    found = Trial(made, training, 0).losses(rows[None])[0]
    batch = made.augmented(batch_of(training, rows), 0)
    with torch.random.fork_rng():
        logits = copy.deepcopy(made.network)(batch.x)
    torch.testing.assert_close(found, functional.cross_entropy(logits, batch.y, reduction="none").detach())


@pytest.fixture
def teacher(architecture, tmp_path):
    """Return a network and the file its weights are in."""

    def make(classes=5, **fields):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            network = architecture(**{"width": 6, "dropout": 0.3} | fields).build(channels=3, classes=classes)
        torch.save(network.state_dict(), tmp_path / "teacher.pt")
        return network, tmp_path / "teacher.pt"

    return make


@pytest.mark.parametrize("normalisation", [{}, {"mean": (0.5,) * 3, "std": (0.2,) * 3}])
def test_losses_under_other_weights_are_those_of_that_network_in_eval_mode(
    steps, training, teacher, architecture, normalisation
):
    other, path = teacher()
    made = steps(architecture=architecture(width=6, dropout=0.3), **normalisation)
    before, trial = everything(made), Trial(made, training, 0)
    found = trial.losses_under(path)
    x = training.pixels(torch.arange(32))
    logits = other.eval()((x - 0.5) / 0.2 if normalisation else x)
    torch.testing.assert_close(
        found, functional.cross_entropy(logits, training.labels, reduction="none").detach()
    )
    assert trial.evaluations == pytest.approx(32 * FORWARD)
    assert_same(before, everything(made))


@pytest.mark.parametrize(("classes", "fields"), [(4, {}), (5, {"width": 7})])
def test_weights_that_do_not_fit_the_network_are_told_in_one_line(
    steps, training, teacher, architecture, classes, fields
):
    _, path = teacher(classes, **fields)
    made = steps(architecture=architecture(width=6, dropout=0.3))
    with pytest.raises(
        CheckpointError, match=r"teacher.pt: weights do not fit Tiny: .* of another shape"
    ) as caught:
        Trial(made, training, 0).losses_under(path)
    assert "\n" not in str(caught.value)
