import os
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from robust_eval.data import Examples
from robust_eval.errors import CheckpointError, ConfigError, RobustEvalError
from robust_eval.methods import Regularizer, Stage
from robust_eval.models.recipe import Journal
from robust_eval.registry import build
from robust_eval.rng import Rng
from trainers import train
from trainers.objective import Objective
from trainers.optim import make_optimizer
from trainers.regularizers.adversarial import Adversarial
from trainers.regularizers.cascading_sum import CascadingSum
from trainers.regularizers.cutmix import CutMix
from trainers.regularizers.erm import ERM
from trainers.regularizers.gradual_cascading_sum import GradualCascadingSum
from trainers.regularizers.mixup import Mixup
from trainers.regularizers.sample_embedding import SampleEmbedding
from trainers.schedule import learning_rate


def run(recipe, examples):
    return train(recipe, examples, device="cpu", report=lambda done, text: None)


def same_weights(first, second):
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def few(digits):
    return digits.first(320)


class Recorded(Regularizer):
    """Lowers the loss, then raises it: the best weights are not the last. Keeps all weights."""

    def __init__(self, turn):
        self.turn, self.weights, self.progress, self.modes = turn, [], [], []

    def loss(self, model, x, y, *, rng, progress):
        self.weights.append({name: value.clone() for name, value in model.state_dict().items()})
        self.progress.append(progress)
        self.modes.append(model.training)
        loss = functional.cross_entropy(model(x), y)
        return loss if progress < self.turn else -loss


class TwoStages(Regularizer):
    def __init__(self, first, second, hand_over):
        self.first, self.second, self.hand_over = first, second, hand_over

    def loss(self, model, x, y, *, rng, progress):
        raise NotImplementedError

    def stages(self):
        return [Stage(self.first, 0.75, self.hand_over), Stage(self.second, 0.25, self.hand_over)]


@pytest.mark.parametrize("regularizer", [ERM(), Mixup(), CutMix(), CascadingSum(k=4), Adversarial(steps=2)])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(recipe, architecture, few, regularizer):
    same = recipe(regularizer, epochs=1, architecture=architecture(dropout=0.2), flip=True, crop=1)
    first = run(same, few)
    torch.manual_seed(123)
    torch.rand(7)
    assert same_weights(first, run(same, few))


def test_another_seed_gives_other_weights(recipe, few):
    assert not same_weights(run(recipe(ERM(), epochs=1), few), run(recipe(ERM(), epochs=1, seed=1), few))


def test_training_leaves_global_state_alone(recipe, architecture, few):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    cudnn = torch.backends.cudnn
    switches = cudnn.deterministic, cudnn.benchmark, torch.is_grad_enabled(), torch.get_default_dtype()
    images = few.images.clone()
    run(recipe(CutMix(), epochs=1, architecture=architecture(dropout=0.2), crop=1, flip=True), few)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    after = cudnn.deterministic, cudnn.benchmark, torch.is_grad_enabled(), torch.get_default_dtype()
    assert after == switches
    assert torch.equal(few.images, images)


def test_every_method_spends_the_same_budget_to_within_a_batch(recipe, few):
    budget = 4 * 288  # epochs times the images that are not held out
    for regularizer in (ERM(), Adversarial(steps=3), CascadingSum(k=8)):
        trained = run(recipe(regularizer, batch_size=32), few)
        images = sum(map(len, trained.network.seen))
        # after each pass the 32 images held out are looked at, and as many training images
        assert trained.evaluations == images - 2 * 32 * len(trained.history)
        assert abs(trained.evaluations - budget) <= max(32, regularizer.evaluations(32))
        assert trained.history[-1]["evaluations"] == trained.evaluations


def test_there_is_about_one_row_for_each_pass(recipe, few):
    history = run(recipe(ERM(), epochs=5, batch_size=32), few).history
    assert len(history) == 5
    assert list(history[0]) == [
        "stage",
        "evaluations",
        "steps",
        "loss",
        "train_accuracy",
        "validation_accuracy",
        "robust_accuracy",
        "weight_norm",
        "lr",
        "used",
    ]
    assert {row["robust_accuracy"] for row in history} == {None}
    assert [row["evaluations"] for row in history] == [288, 576, 864, 1152, 1440]


@pytest.mark.parametrize(
    ("regularizer", "epochs"), [(ERM(), 6), (Mixup(), 8), (CascadingSum(k=4), 10)], ids=repr
)
def test_digits_are_learned(recipe, digits, regularizer, epochs):
    trained = run(recipe(regularizer, epochs=epochs), digits)
    assert trained.history[-1]["validation_accuracy"] > 0.9
    assert not trained.network.training


def test_normalisation_is_inside_the_network(recipe, digits):
    trained = run(recipe(ERM(), epochs=3, mean=(0.3,), std=(0.35,)), digits)
    with torch.no_grad():
        accuracy = (trained.network(digits.pixels()).argmax(1) == digits.labels).float().mean()
    assert accuracy > 0.9


def test_float_images_train_as_well_as_bytes(recipe, few):
    as_float = Examples(few.pixels(), few.labels, few.classes)
    assert same_weights(run(recipe(ERM(), epochs=1), few), run(recipe(ERM(), epochs=1), as_float))


def test_the_next_stage_starts_from_the_best_weights(recipe, few):
    first, second = Recorded(turn=0.4), Recorded(turn=2)
    stages = TwoStages(first, second, "best")
    history = run(recipe(stages, epochs=12, batch_size=32), few).history
    rows = [row for row in history if row["stage"] == 0]
    best = max(range(len(rows)), key=lambda i: rows[i]["validation_accuracy"])
    assert best + 1 < len(rows), "the loss is raised at the end, so an earlier row must be the best"
    # what a step starts from are the weights after the step before it
    stored = first.weights[rows[best]["evaluations"] // 32]
    assert all(torch.equal(stored[name], value) for name, value in second.weights[0].items())


class Idle(Regularizer):
    """Learns nothing."""

    def loss(self, model, x, y, *, rng, progress):
        return 0 * functional.cross_entropy(model(x), y)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_stage_that_does_not_improve_leaves_the_rest_of_its_share_to_the_next(recipe, few, passes):
    class Stages(TwoStages):
        def stages(self):
            return [Stage(self.first, 0.75, "best", passes), Stage(self.second, 0.25, "best", passes)]

    second = Recorded(turn=2)
    trained = run(recipe(Stages(Idle(), second, "best"), epochs=12, batch_size=32, lr=1e-8), few)
    rows = [row["stage"] for row in trained.history]
    best = trained.history[0]["validation_accuracy"]
    ended = next(
        i for i in range(len(rows)) if i >= passes and trained.history[i]["validation_accuracy"] <= best
    )
    assert rows.count(0) <= ended + passes < 9, "nine passes are its share"
    # the last stage never gives up
    assert trained.evaluations == 12 * 288 and rows.count(1) == 12 - rows.count(0)
    assert second.progress[0] == pytest.approx(rows.count(0) / 12) and second.progress[-1] < 1


def test_the_next_stage_goes_on_from_the_last_weights_when_told_so(recipe, few):
    first, second = Recorded(turn=0.4), Recorded(turn=2)
    history = run(recipe(TwoStages(first, second, "last"), epochs=4, batch_size=32), few).history
    last_row = max(row["evaluations"] for row in history if row["stage"] == 0)
    assert len(first.weights) == last_row // 32
    before, after = first.weights[-1], second.weights[0]
    assert int(after["first.1.num_batches_tracked"]) == int(before["first.1.num_batches_tracked"]) + 1


class Continued(Regularizer):
    """Stages that go on from each other."""

    def __init__(self, *parts, continues=True):
        self.parts, self.continues = parts, continues

    def loss(self, model, x, y, *, rng, progress):
        raise NotImplementedError

    def stages(self):
        return [Stage(*part, continues=self.continues and i > 0) for i, part in enumerate(self.parts)]


@pytest.mark.parametrize("schedule", ["cosine", "constant", "step", "multi_step", "one_cycle"])
def test_stages_that_continue_each_other_have_the_schedule_of_one(recipe, architecture, few, schedule):
    fields = {"epochs": 4, "batch_size": 32, "schedule": schedule, "architecture": architecture(width=4)}
    parts = (Recorded(2), 0.25), (Recorded(2), 0.5), (Recorded(2), 0.25)
    whole = run(recipe(ERM(), **fields), few).history
    for continues in (True, False):
        rows = run(recipe(Continued(*parts, continues=continues), **fields), few).history
        assert [row["stage"] for row in rows] == [0, 1, 1, 2]
        same = [row["lr"] for row in rows] == [row["lr"] for row in whole]
        assert same == (continues or schedule == "constant")


def test_the_rate_of_gradual_cascading_sum_is_a_function_of_the_budget(recipe, few):
    made = recipe(GradualCascadingSum(k=4), epochs=8, batch_size=32)
    rows = run(made, few).history
    assert {row["stage"] for row in rows} == {0, 1, 2, 3}
    for row in rows:
        # a step of the last stage takes 32 of the 2,304 evaluations
        done = row["evaluations"] / (8 * 288)
        assert row["lr"] == pytest.approx(learning_rate(made, round(done * 1e4), 10**4), abs=0.05 * made.lr)
    rates = [row["lr"] for row in rows]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.001 < 0.04 < rates[0]


def test_a_continued_stage_keeps_the_momentum(recipe, few):
    for continues in (True, False):
        second = Frozen()
        stages = Continued((Recorded(2), 0.5), (second, 0.5), continues=continues)
        fields = {"schedule": "constant", "weight_decay": 0.0, "nesterov": False, "warm_up": 0}
        run(recipe(stages, batch_size=32, **fields), few)
        first, *others = (weights["head.1.weight"] for weights in second.weights)
        steps = [after - before for before, after in pairwise([first, *others])]
        if continues:
            # without a gradient, each step is 0.9 of the one before
            torch.testing.assert_close(steps[1], 0.9 * steps[0], rtol=1e-2, atol=1e-6)
            assert steps[0].abs().max() > 1e-5
        else:
            assert all(not step.any() for step in steps)


class Frozen(Recorded):
    """Has no gradient."""

    def __init__(self):
        super().__init__(2)

    def loss(self, model, x, y, *, rng, progress):
        return 0 * super().loss(model, x, y, rng=rng, progress=progress)


def test_a_continued_stage_goes_on_from_the_weights_themselves_and_averages_on(recipe, few):
    fields = {"ema": 0.9, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 32}
    gaps = {}
    for continues in (True, False):
        first, second = Recorded(2), Frozen()
        trained = run(recipe(Continued((first, 0.5), (second, 0.5), continues=continues), **fields), few)
        weights = second.weights[0]["head.1.weight"]
        assert torch.equal(weights, second.weights[-1]["head.1.weight"])
        gaps[continues] = (trained.network.state_dict()["head.1.weight"] - weights).abs().max()
    # the average still holds weights of the first stage; begun anew, it is of those that stayed as they are
    assert gaps[True] > 1e-5 and gaps[False] < 1e-7


def test_halvings_of_the_rate_are_kept_by_a_continued_stage(recipe, few):
    fields = {"epochs": 6, "batch_size": 32, "schedule": "halve_on_plateau", "patience": 2, "warm_up": 0}
    for continues in (True, False):
        stages = Continued((Recorded(-1), 0.5), (Recorded(-1), 0.5), continues=continues)
        rows = run(recipe(stages, lr=1e-6, **fields), few).history
        rates = {stage: [row["lr"] for row in rows if row["stage"] == stage] for stage in (0, 1)}
        assert rates[0][-1] < 1e-6 / 4
        assert (rates[1][0] <= rates[0][-1]) == continues


def test_what_a_stage_gave_up_stays_in_the_schedule_of_those_that_continue_it(recipe, few):
    class Stages(TwoStages):
        def stages(self):
            return [Stage(self.first, 0.5, "last", 1), Stage(self.second, 0.5, continues=True)]

    rows = run(recipe(Stages(Idle(), ERM(), "last"), epochs=8, batch_size=32, lr=1e-8), few).history
    whole = run(recipe(ERM(), epochs=8, batch_size=32, lr=1e-8), few).history
    assert [row["stage"] for row in rows].count(0) < 4
    assert [row["lr"] for row in rows] == pytest.approx([row["lr"] for row in whole], rel=1e-6)


def test_the_best_weights_are_not_handed_to_a_stage_that_continues(recipe, few):
    stages = Continued((ERM(), 0.5, "best"), (ERM(), 0.5))
    with pytest.raises(
        ConfigError, match="expected hand_over='last' before a stage that continues, got 'best'"
    ):
        run(recipe(stages), few)


def test_progress_runs_from_zero_to_one_over_all_stages_in_train_mode(recipe, few):
    first, second = Recorded(turn=2), Recorded(turn=2)
    reported = []
    train(
        recipe(TwoStages(first, second, "last"), batch_size=32),
        few,
        device="cpu",
        report=lambda done, text: reported.append(done),
    )
    progress = first.progress + second.progress
    assert progress[0] == 0 and progress == sorted(progress) and 0.9 < progress[-1] < 1
    assert second.progress[0] == 0.75
    assert reported == sorted(reported) and reported[-1] == 1
    assert all(first.modes + second.modes)


def test_the_best_of_several_stages_needs_held_out_images(recipe, few):
    with pytest.raises(ConfigError, match="expected images held out, got none with validation=0"):
        run(recipe(CascadingSum(), validation=0.0), few)


def test_training_without_held_out_images_reports_no_accuracy(recipe, few):
    trained = run(recipe(ERM(), epochs=1, validation=0.0), few)
    assert {row["validation_accuracy"] for row in trained.history} == {None}


def test_a_batch_larger_than_the_data_is_the_data(recipe, few):
    trained = run(recipe(ERM(), epochs=2, batch_size=1000), few)
    assert trained.evaluations == 2 * 288


def test_one_image_is_not_enough(recipe, few):
    with pytest.raises(ConfigError, match="expected at least 2 images to train on, got 1"):
        run(recipe(ERM()), few.first(1))


def test_a_loss_that_is_not_finite_stops_training_and_names_the_step(recipe, few):
    class Diverges(Recorded):
        def loss(self, model, x, y, *, rng, progress):
            loss = super().loss(model, x, y, rng=rng, progress=progress)
            return loss * float("nan") if len(self.weights) == 8 else loss

        def __repr__(self):
            return "Diverges()"

    with pytest.raises(
        RobustEvalError, match=r"expected a finite loss, got nan at step 7 of Diverges\(\); lower lr"
    ):
        run(recipe(Diverges(turn=2)), few)


def test_an_objective_is_the_loss_of_its_regularizer(network):
    x, y, rng = torch.rand(6, 3, 8, 8), torch.arange(6) % 5, Rng(3)
    network.eval()
    value = Objective(network, Mixup())(x, y, rng, 0.0)
    assert torch.equal(value, Mixup().loss(network, x, y, rng=rng, progress=0.0))


class Killed(Exception):
    pass


def interrupted(recipe, examples, folder, *, after):
    """Train until so many rows are written, then die; train again."""
    rows = []

    def report(done, text):
        log = folder / "log.csv"
        rows[:] = log.read_text().splitlines()[1:] if log.exists() else []
        if len(rows) >= after and not report.dead:
            report.dead = True
            raise Killed

    report.dead = False
    with pytest.raises(Killed):
        train(recipe, examples, device="cpu", report=report, journal=Journal(folder))
    return train(recipe, examples, device="cpu", report=lambda *_: None, journal=Journal(folder))


@pytest.mark.parametrize(
    ("regularizer", "fields", "after"),
    [
        (ERM(), {"ema": 0.9, "checkpoint": "best"}, 2),
        (CascadingSum(k=4), {"optimizer": "adam", "lr": 0.005}, 1),
        (CascadingSum(k=4), {"schedule": "halve_on_plateau", "patience": 2}, 3),
        (GradualCascadingSum(k=4), {"ema": 0.9, "schedule": "one_cycle"}, 2),
        (SampleEmbedding(std=0.1), {}, 2),
        (GradualCascadingSum(k=4), {"schedule": "halve_on_plateau", "patience": 2}, 3),
        (GradualCascadingSum(k=2), {"optimizer": "adam", "lr": 0.005, "crop": "resized"}, 1),
    ],
    ids=["average", "stages", "plateau", "one schedule", "companion", "continued plateau", "continued adam"],
)
def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    recipe, architecture, few, tmp_path, regularizer, fields, after
):
    small = architecture(width=4, dropout=0.2)
    same = recipe(regularizer, batch_size=32, architecture=small, **{"crop": 1} | fields)
    whole = run(same, few)
    resumed = interrupted(same, few, tmp_path, after=after)
    assert same_weights(whole, resumed)
    assert resumed.history == whole.history and resumed.evaluations == whole.evaluations
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + len(whole.history)


def test_the_state_of_another_training_is_refused(recipe, few, tmp_path):
    interrupted(recipe(ERM()), few, tmp_path, after=1)
    with pytest.raises(
        RobustEvalError, match="expected the state of this training, got that of another recipe"
    ):
        train(recipe(ERM(), lr=0.1), few, device="cpu", report=lambda *_: None, journal=Journal(tmp_path))


def test_a_damaged_state_is_named_and_not_trusted(recipe, few, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(
        RobustEvalError, match=r"state.pt: expected the state of a training.*remove it to start anew"
    ):
        train(recipe(ERM()), few, device="cpu", report=lambda *_: None, journal=Journal(tmp_path))


@pytest.mark.parametrize("name", ["state.pt", "log.csv"])
def test_a_fifo_where_a_training_is_noted_is_told_and_not_waited_on(recipe, few, tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(RobustEvalError, match=rf"{name}: expected .*FIFO"):
        train(recipe(ERM(), epochs=1), few, device="cpu", report=lambda *_: None, journal=Journal(tmp_path))


def test_robust_accuracy_is_watched_every_so_many_passes_and_changes_no_weight(recipe, few, tmp_path):
    plain = run(recipe(ERM()), few)
    watched = train(
        recipe(ERM()), few, device="cpu", report=lambda *_: None, journal=Journal(tmp_path, robust_every=2)
    )
    seen = [row["robust_accuracy"] for row in watched.history]
    assert [value is not None for value in seen] == [i % 2 == 1 for i in range(len(seen))] and len(seen) > 2
    assert all(row["robust_accuracy"] <= row["validation_accuracy"] for row in watched.history[1::2])
    assert same_weights(plain, watched)


def test_tensorboard_that_is_not_installed_is_named_before_training(recipe, few, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    journal = Journal(tmp_path, tensorboard=True)
    with pytest.raises(
        ConfigError, match=r"expected the package tensorboard, got none installed; pip install"
    ):
        train(recipe(ERM()), few, device="cpu", report=lambda *_: None, journal=journal)


def test_the_weight_norm_of_the_last_row_is_that_of_the_network(recipe, few):
    trained = run(recipe(ERM(), epochs=1), few)
    norm = sum(weight.double().square().sum() for weight in trained.network.parameters()).sqrt().item()
    assert trained.history[-1]["weight_norm"] == pytest.approx(norm)


def test_the_best_weights_come_back_if_the_recipe_says_so(recipe, few):
    method = Recorded(turn=0.4)
    trained = run(recipe(method, epochs=12, batch_size=32, checkpoint="best"), few)
    best = max(range(12), key=lambda i: trained.history[i]["validation_accuracy"])
    stored = method.weights[trained.history[best]["evaluations"] // 32]
    weights = trained.network.state_dict()
    assert all(torch.equal(stored[name], value) for name, value in weights.items())


def test_the_average_of_the_weights_is_what_comes_back(recipe, few):
    method = Recorded(turn=2)
    trained = run(recipe(method, epochs=1, batch_size=32, ema=0.8), few)
    last, average = method.weights, None
    # what a step starts from are the weights after the step before it; those after the last step are not seen
    for step, weights in enumerate(last[1:]):
        decay = min(0.8, (1 + step) / (10 + step))
        before = last[0] if average is None else average
        average = {name: decay * before[name] + (1 - decay) * weights[name] for name in ("first.0.weight",)}
    moved = (trained.network.state_dict()["first.0.weight"] - average["first.0.weight"]).abs().max()
    step_length = (last[-1]["first.0.weight"] - last[-2]["first.0.weight"]).abs().max()
    assert 0 < moved < step_length


def test_frozen_layers_keep_weights_and_statistics(recipe, architecture, few):
    made = recipe(ERM(), epochs=1, freeze=("stem",))
    trained = run(made, few).network.state_dict()
    untouched = run(recipe(ERM(), epochs=1, freeze=("stem", "stage1", "stage2"), lr=0.01), few)
    begun = untouched.network.state_dict()
    for name, value in trained.items():
        assert torch.equal(value, begun[name]) == name.startswith("first"), name


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("stage4",), "expected some of stem, stage1, stage2, head"),
        (("stem", "stage1", "stage2", "head"), "all of them"),
    ],
)
def test_freezing_what_is_not_there_or_everything_is_refused(recipe, few, layers, message):
    with pytest.raises(ConfigError, match=message):
        run(recipe(ERM(), freeze=layers), few)


def test_training_starts_from_given_weights(recipe, few, tmp_path):
    first = run(recipe(ERM(), epochs=1), few)
    path = tmp_path / "weights.safetensors"
    save_file(first.network.state_dict(), path)
    method = Recorded(turn=2)
    run(recipe(method, epochs=1, start=path), few)
    assert all(
        torch.equal(method.weights[0][name], value) for name, value in first.network.state_dict().items()
    )


def test_a_new_head_is_trained_on_frozen_layers_of_other_classes(recipe, few, tmp_path):
    architecture = build("architecture", "small_cnn", {"width": 4})
    begun = architecture.build(channels=1, classes=3).state_dict()
    save_file(begun, tmp_path / "weights.safetensors")
    fields = {"architecture": architecture, "start": tmp_path / "weights.safetensors", "epochs": 1}
    frozen = {"start_head": "new", "freeze": ("stem", "stage1", "stage2")}
    trained = run(recipe(ERM(), **fields, **frozen), few).network.state_dict()
    assert trained["linear.weight"].shape[0] == 10
    assert all(torch.equal(value, begun[name]) for name, value in trained.items() if "linear" not in name)
    with pytest.raises(
        CheckpointError, match=r"expected a head of 10 classes, got one of 3; start_head='new'"
    ):
        run(recipe(ERM(), **fields), few)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_module_that_asks_is_told_how_far_the_training_is(recipe, few, ema):
    architecture = build("architecture", "gradual_top_k", {"width": 4, "branches": 3, "finetune": 0.3})
    method = Recorded(turn=2)
    trained = run(recipe(method, architecture=architecture, epochs=3, ema=ema), few)
    told = [int(weights["layer1.done"]) / 1e6 for weights in method.weights]
    assert told == pytest.approx(method.progress, abs=1e-6) and told[0] == 0
    assert trained.network.layer2.t == 1
    assert int(trained.network.layer1.done) / 1e6 == pytest.approx(method.progress[-1], abs=1e-6)


def test_mixed_precision_learns(recipe, digits):
    assert run(recipe(ERM(), epochs=3, precision="bf16"), digits).history[-1]["validation_accuracy"] > 0.9


OPTIMIZERS = {"sgd": 0.05, "adam": 0.005, "adamw": 0.005, "adagrad": 0.02, "rmsprop": 0.001}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_follows_the_recipe(recipe, network, optimizer):
    network.first.requires_grad_(False)
    made = recipe(ERM(), optimizer=optimizer, lr=0.01, weight_decay=0.003)
    (group,) = make_optimizer(made, network.parameters()).param_groups
    assert group["lr"] == 0.01 and group["weight_decay"] == 0.003
    assert len(group["params"]) == sum(weight.requires_grad for weight in network.parameters())
    if optimizer == "sgd":
        assert group["momentum"] == 0.9 and group["nesterov"]
        heavy = make_optimizer(recipe(ERM(), nesterov=False, momentum=0.5), network.parameters())
        assert heavy.param_groups[0]["momentum"] == 0.5 and not heavy.param_groups[0]["nesterov"]


@pytest.mark.parametrize(("optimizer", "lr"), OPTIMIZERS.items())
def test_every_optimizer_learns(recipe, digits, optimizer, lr):
    trained = run(recipe(ERM(), optimizer=optimizer, lr=lr, epochs=4), digits)
    assert trained.history[-1]["validation_accuracy"] > 0.9
