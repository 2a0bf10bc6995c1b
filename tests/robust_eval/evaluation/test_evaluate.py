"""The evaluator re-measures everything, scores random models on fresh draws, and repeats itself."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import nn

import defenses  # noqa: F401 - registers the methods
from robust_eval import Classifier, Rng, attack, corruption, registry
from robust_eval.adaptive import GlobalDraws
from robust_eval.data import Examples
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.summary import rescored
from robust_eval.evaluation.workbench import Workbench
from robust_eval.methods import Attack
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import build, register
from robust_eval.results.cell import Cell, Data
from robust_eval.threat import Threat
from robust_eval.types import AttackResult, StochasticModule


def examples(n=24, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, 8, 8, generator=generator)
    return Examples(images, torch.arange(n) % classes, classes)


def linear(seed=0, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def right(network, data):
    """The same images under the labels that the network gives them, but for the first three."""
    with torch.no_grad():
        labels = network(data.images).argmax(1)
    labels[:3] = (labels[:3] + 1) % data.classes
    return Examples(data.images, labels, data.classes)


def source(network, name="net"):
    return OwnModel(name, network, "test", {"weights": name}, "0" * 64)


def bench():
    return Workbench(lambda model: Loaded(model.network, model.weights_sha256), batch_size=7)


def checks_of(record):
    return {check.name: check.verdict for check in record.checks}


NETWORK = linear()
DATA = Data("data", right(NETWORK, examples()), examples(30, seed=1))


@register("attack", "liar")
@dataclass(frozen=True, kw_only=True)
class Liar(Attack):
    """Hands back what it must not, and claims success."""

    how: str = "far"
    eps: float = 0.1

    @property
    def threat(self):
        return Threat("linf", self.eps)

    def run(self, model, x, y, *, rng):
        x_adv = x.clone()
        if self.how == "far":
            x_adv = 1 - x
        elif self.how == "outside":
            x_adv = x - 5
        elif self.how == "nan":
            x_adv[:, 0, 0, 0] = torch.nan
        return AttackResult(x_adv, torch.zeros_like(y))


# known to records, but not found by name: the contract tests are about real attacks
registry._METHODS.pop(("attack", "liar"))


@pytest.mark.parametrize("how", ["far", "outside", "nan"])
def test_what_leaves_the_ball_or_the_box_does_not_count(how):
    clean = evaluate(Cell(source(NETWORK), DATA), bench())
    record = evaluate(Cell(source(NETWORK), DATA, Liar(how=how)), bench())
    assert record.summary[0].value == clean.summary[0].value == pytest.approx(21 / 24)
    assert checks_of(record)["constraint"] == "fail"


def test_a_claim_of_success_does_not_count():
    record = evaluate(Cell(source(NETWORK), DATA, Liar(how="nothing")), bench())
    assert record.summary[0].value == pytest.approx(21 / 24)
    assert checks_of(record)["constraint"] == "ok"


def test_only_clean_correct_examples_are_attacked_and_robust_means_both():
    record = evaluate(Cell(source(NETWORK), DATA, attack("pgd", eps=0.02, steps=5)), bench())
    rows = record.rows
    assert rows["attacked"].tolist() == [False] * 3 + [True] * 21
    assert (rows["score"][~rows["attacked"]] == 0).all()
    assert (rows["distance"][~rows["attacked"]] == 0).all()
    assert (rows["forwards"][~rows["attacked"]] == 0).all()
    assert (rows["prediction"] == rows["label"]).tolist() == (rows["score"] == 1).tolist()
    assert record.provenance["backwards"] == rows["backwards"].sum() > 0
    for way in ("forward", "backward"):
        kinds = {
            name: sizes for name, sizes in record.provenance["batches"].items() if name.startswith(f"{way} ")
        }
        sent = sum(images for sizes in kinds.values() for _, images in sizes.values())
        assert sent == record.provenance[f"{way}s"]


def test_an_attack_of_radius_zero_leaves_the_clean_accuracy():
    record = evaluate(Cell(source(NETWORK), DATA, attack("pgd", eps=0, steps=3)), bench())
    assert record.summary[0].value == pytest.approx(21 / 24)


def test_a_minimal_norm_attack_is_scored_at_every_radius_and_can_be_rescored():
    cell = Cell(source(NETWORK), DATA, attack("deepfool"), score_at=(0.0, 10.0))
    record = evaluate(cell, bench())
    values = {m.eps: m.value for m in record.summary if m.metric == "accuracy"}
    assert values == {0.0: pytest.approx(21 / 24), 10.0: 0.0}
    middle = float(np.median(record.rows["distance"][record.rows["attacked"]]))
    wider = rescored(record, Cell(source(NETWORK), DATA, attack("deepfool"), score_at=(middle,)))
    at = {m.eps: m.value for m in wider.summary if m.metric == "accuracy"}
    assert set(at) == {0.0, 10.0, middle} and 0 < at[middle] < 21 / 24
    assert wider.key == record.key


def test_a_corruption_is_scored_on_all_images():
    cell = Cell(source(NETWORK), DATA, corruption("gaussian_noise", severity=1))
    record = evaluate(cell, bench())
    x = cell.perturbation(DATA.examples.images, rng=Rng(0).for_batch(24).child("corruption"))
    expected = (NETWORK(x).argmax(1) == DATA.examples.labels).double().mean()
    assert record.summary[0].value == pytest.approx(expected.item())


def test_the_same_cell_gives_the_same_rows_alone_or_after_others_whatever_the_batch_size():
    attacks = [attack("fgsm", eps=0.02), attack("pgd", eps=0.02, steps=3), corruption("fog")]
    cells = [Cell(source(NETWORK), DATA)]
    cells += [Cell(source(NETWORK), DATA, each) for each in attacks]
    for name, fields in (("sum_augmentation", {"copies": 3}), ("mixup_inference", {"samples_ol": 3})):
        method = build("defense", name, fields)
        cells += [Cell(source(NETWORK), DATA, None, method, draws=3)]
        cells += [
            Cell(source(NETWORK), DATA, attacks[1], method, how, draws=3) for how in ("transfer", "adaptive")
        ]
    shared = bench()
    for cell in cells:
        together = evaluate(cell, shared)
        alone = evaluate(cell, Workbench(lambda m: Loaded(m.network, m.weights_sha256), batch_size=64))
        assert_frame_equal(together.rows, alone.rows, rtol=1e-5, atol=1e-6)
        # kernels round by the size of their batch
        assert_frame_equal(pd.DataFrame(together.summary), pd.DataFrame(alone.summary), rtol=1e-6)


FEW = {"copies": 3, "select_draws": 10, "certify_draws": 20}


@pytest.mark.parametrize("defense", [None, build("defense", "gaussian_smoothing", FEW)])
@pytest.mark.parametrize(
    "perturbation",
    [
        None,
        corruption("snow"),
        attack("pgd", eps=0.02, steps=3),
        attack("pgd", eps=0.02, steps=3, target="next"),
        attack("deepfool", steps=8),
    ],
)
def test_images_measured_in_parts_give_the_record_of_all_at_once(perturbation, defense, monkeypatch):
    access = "adaptive" if defense is not None and isinstance(perturbation, Attack) else "none"
    cell = Cell(source(NETWORK), DATA, perturbation, defense, access, draws=3)
    whole = evaluate(cell, bench())
    monkeypatch.setattr("robust_eval.evaluation.prepared.VALUES_IN_MEMORY", 5 * 64)
    assert len(bench().prepare(cell).parts) == 5
    parts = evaluate(cell, bench())
    assert_frame_equal(parts.rows, whole.rows, rtol=1e-5, atol=1e-6)
    assert [m.metric for m in parts.summary] == [m.metric for m in whole.summary]
    values = [[math.nan if m.value is None else m.value for m in each.summary] for each in (parts, whole)]
    assert values[0] == pytest.approx(values[1], rel=1e-5, nan_ok=True)
    assert parts.checks == whole.checks
    assert parts.provenance.get("sample") == whole.provenance.get("sample")


@pytest.mark.parametrize("name", ["pgd", "deepfool"])
def test_images_of_the_target_class_are_left_out_of_the_attack_and_that_is_said(name):
    made = build("attack", name, {"target": 1, "steps": 3, **({"eps": 0.3} if name == "pgd" else {})})
    record = evaluate(Cell(source(NETWORK), DATA, made), bench())
    own = record.rows["label"] == 1
    correct = record.rows["label"] == record.rows["clean_prediction"]
    assert own.any() and (own & correct).any() and not record.rows["attacked"][own].any()
    assert record.rows["attacked"][correct & ~own].all()
    assert set(record.rows["target"][correct & ~own]) == {1} and set(record.rows["target"][own]) == {-1}
    [check] = [check for check in record.checks if check.name == "target_class"]
    assert check.verdict == "warn" and check.figure == pytest.approx(own.mean())
    assert f"{own.sum()} of {len(own)} images are of the target class and were not attacked" in check.advice
    others = evaluate(Cell(source(NETWORK), DATA, build("attack", name, {"target": "next"})), bench())
    assert "target_class" not in {check.name for check in others.checks}


def test_an_attack_hands_images_of_its_target_class_back_untouched():
    x, y = DATA.examples.pixels(), NETWORK(DATA.examples.pixels()).argmax(1)
    x_adv = attack("pgd", eps=0.3, steps=3, target=1)(NETWORK, x, y, rng=0)
    moved = (x_adv != x).flatten(1).any(1)
    assert torch.equal(moved, y != 1) and 0 < moved.sum() < len(y)


class Doubled(nn.Module):
    """Takes float32 and computes in float64."""

    def __init__(self):
        super().__init__()
        self.inner = convolutions().double()

    def forward(self, x):
        return self.inner(x.double()).float()


def convolutions():
    torch.manual_seed(0)
    layers = [layer for i in (1, 4, 4, 4) for layer in (nn.Conv2d(i, 4, 3, padding=1), nn.Tanh())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 3)).eval()


def hooked():
    network = convolutions()
    network[2].register_forward_hook(lambda *_: None)
    return network


def of_two_layers():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(256, 3)).eval()


@pytest.mark.parametrize(
    ("make", "asked", "used", "reason"),
    [
        (convolutions, "bf16", "bf16", None),
        (convolutions, "fp32", "fp32", None),
        (hooked, "bf16", "fp32", "it has hooks"),
        (of_two_layers, "bf16", "fp32", "fewer than three layers"),
        (Doubled, "bf16", "fp32", "its weights are torch.float64, not float32"),
    ],
)
def test_the_record_of_an_attack_says_in_which_precision_it_climbed_and_why_no_faster(
    make, asked, used, reason
):
    network = make()
    x = examples().pixels()
    labels = network(x).argmax(1)
    data = Data("data", Examples(x, labels, 3))
    workbench = Workbench(lambda model: Loaded(model.network, model.weights_sha256), precision=asked)
    record = evaluate(Cell(source(network), data, attack("pgd", eps=0.02, steps=2)), workbench)
    assert record.provenance["precision"] == used
    told = record.provenance["slow_because"]
    assert told is None if reason is None else reason in told


FEWER = Data("data", Examples(DATA.examples.images[:8], DATA.examples.labels[:8], 3))


class Coin(nn.Module):
    """Answers at random, from torch's global generator."""

    def forward(self, x):
        return torch.randn(len(x), 3) + 0 * x.flatten(1)[:, :1]


def test_a_model_that_draws_from_the_global_generator_is_seeded_noticed_and_leaves_no_trace():
    cell = Cell(source(GlobalDraws(Coin()), "coin"), FEWER, attack("fgsm"), draws=4, gradient_draws=4)
    state = torch.random.get_rng_state()
    first, second = evaluate(cell, bench()), evaluate(cell, bench())
    assert torch.random.get_rng_state().equal(state)
    assert_frame_equal(first.rows, second.rows)
    assert checks_of(first)["deterministic"] == "warn"
    unnoticed = evaluate(Cell(source(Coin(), "coin"), DATA), bench())
    assert checks_of(unnoticed)["deterministic"] == "fail"
    assert checks_of(first)["zero_gradient"] == "warn"


def test_probabilities_and_nan_are_flagged_in_every_record_of_the_model():
    softmax = nn.Sequential(NETWORK, nn.Softmax(1))
    for perturbation in (None, attack("fgsm"), corruption("contrast")):
        record = evaluate(Cell(source(softmax, "softmax"), DATA, perturbation), bench())
        assert checks_of(record)["logits"] == "warn"
    broken = linear()
    with torch.no_grad():
        broken[1].bias[0] = torch.nan
    record = evaluate(Cell(source(broken, "broken"), DATA, attack("pgd", steps=2)), bench())
    assert checks_of(record)["finite"] == "fail"
    assert record.summary[0].value == 0  # an answer of NaN is a wrong answer
    assert (record.rows["prediction"] == -1).all()


def test_a_stochastic_model_is_scored_over_draws():
    method = build("defense", "sum_augmentation", {"k": 4, "copies": 1})
    record = evaluate(Cell(source(NETWORK), DATA, None, method, draws=20), bench())
    rows = record.rows
    assert set(np.round(rows["score"] * 20)) - {0, 20}, "some images must be right on some draws only"
    metrics = {m.metric: m.value for m in record.summary}
    assert metrics["accuracy"] == pytest.approx(rows["score"].mean())
    assert metrics["accuracy_worst_of_k"] == (rows["score"] == 1).mean()
    assert metrics["accuracy_worst_of_k"] <= metrics["accuracy"]
    assert metrics["accuracy_majority"] == pytest.approx((rows["prediction"] == rows["label"]).mean())


class Jitter(StochasticModule):
    """A network of the user's that declares its draws."""

    def __init__(self):
        super().__init__()
        self.network = NETWORK

    def redraw(self, rng):
        self.rng = rng

    def forward(self, x):
        return self.network(x) + 2 * self.rng.normal(3)


def test_a_users_stochastic_model_is_scored_over_draws_and_they_are_part_of_its_key():
    cell = Cell(source(Jitter(), "jitter"), DATA, attack("pgd", eps=0.02, steps=2), draws=20)
    record = evaluate(cell, bench())
    assert set(np.round(record.rows["score"] * 20)) - {0, 20}
    assert checks_of(record)["deterministic"] == "ok"
    assert cell.key != Cell(cell.model, DATA, cell.perturbation, draws=10).key
    assert_frame_equal(record.rows, evaluate(cell, bench()).rows)


def test_a_transfer_attack_walks_every_step_on_the_base_and_beats_its_first_success():
    method = build("defense", "sum_augmentation", {"k": 2, "copies": 4})
    bim = attack("bim", eps=0.1, steps=10, look_ahead=False)
    plain = evaluate(Cell(source(NETWORK), DATA, bim), bench())
    transfer = evaluate(Cell(source(NETWORK), DATA, bim, method, "transfer", draws=4), bench())
    adaptive = evaluate(Cell(source(NETWORK), DATA, bim, method, "adaptive", draws=4), bench())
    attacked = transfer.rows["attacked"]
    assert transfer.rows["backwards"][attacked].eq(10).all()
    assert plain.rows["backwards"].sum() < transfer.rows["backwards"].sum()
    assert plain.rows["distance_linf"][attacked].mean() < transfer.rows["distance_linf"][attacked].mean()
    assert adaptive.rows["distance_l2"].tolist() != transfer.rows["distance_l2"].tolist()
    x, y = DATA.examples.images, DATA.examples.labels
    first = bim(Classifier(NETWORK), x, y, rng=Rng(0))
    defended = Classifier(method.wrap(NETWORK, DATA.pool))
    survived = (defended.logits(first, rng=Rng(1)).argmax(1) == y).double().mean().item()
    assert transfer.summary[0].value < survived


def test_a_minimal_norm_attack_by_transfer_is_that_on_the_base():
    method = build("defense", "sum_augmentation", {"copies": 4})
    plain = evaluate(Cell(source(NETWORK), DATA, attack("deepfool"), score_at=(0.5,)), bench())
    transfer = evaluate(
        Cell(source(NETWORK), DATA, attack("deepfool"), method, "transfer", score_at=(0.5,)), bench()
    )
    assert transfer.rows["distance_l2"].tolist() == plain.rows["distance_l2"].tolist()


def test_a_lucky_draw_on_an_image_that_is_wrong_when_clean_does_not_count_as_robust():
    method = build("defense", "sum_augmentation", {"k": 4, "copies": 1})
    clean = evaluate(Cell(source(NETWORK), DATA, None, method, draws=20), bench())
    wrong = clean.rows["prediction"] != clean.rows["label"]
    assert clean.rows["score"][wrong].sum() > 0, "some wrong images must be right on some draws"
    for how in ("transfer", "adaptive"):
        record = evaluate(
            Cell(source(NETWORK), DATA, attack("pgd", eps=0, steps=1), method, how, draws=20), bench()
        )
        assert record.rows["score"][wrong].sum() == 0
        assert {m.metric: m.value for m in record.summary}["accuracy_majority"] <= (~wrong).mean()


def test_minimal_norm_attacks_on_a_stochastic_model_are_not_deceived_by_single_draws():
    method = build("defense", "sum_augmentation", {"k": 2, "copies": 2})
    for name, fields in (("deepfool", {}), ("cw", {"binary_search_steps": 4, "steps": 30, "lr": 0.1})):
        record = evaluate(
            Cell(source(NETWORK), DATA, attack(name, **fields), method, "adaptive", score_at=(9.0,)), bench()
        )
        found = record.rows["attacked"] & (record.rows["step"] >= 0)
        assert found.any()
        assert record.rows["score"][found].mean() < 0.7, "most draws must be fooled where the attack says so"


def test_a_minimal_norm_attack_by_transfer_is_warned_about():
    method = build("defense", "sum_augmentation", {"copies": 2})
    deepfool = attack("deepfool", steps=8)
    verdicts = {
        how: checks_of(
            evaluate(Cell(source(NETWORK), DATA, deepfool, method, how, score_at=(1.0,), draws=3), bench())
        )
        for how in ("transfer", "adaptive")
    }
    assert verdicts["transfer"]["minimal_transfer"] == "warn"
    assert verdicts["adaptive"]["minimal_transfer"] == "ok"


def test_a_defense_without_a_pool_is_refused():
    method = build("defense", "sum_augmentation", {})
    with pytest.raises(Exception, match="pool"):
        evaluate(Cell(source(NETWORK), Data("data", DATA.examples), None, method), bench())


def test_a_cell_is_the_same_where_hardly_anything_can_be_kept():
    small = Workbench(lambda model: Loaded(model.network, model.weights_sha256), memory=1)
    cell = Cell(source(NETWORK), DATA, attack("fgsm", eps=0.02))
    assert_frame_equal(evaluate(cell, small).rows, evaluate(cell, bench()).rows)
