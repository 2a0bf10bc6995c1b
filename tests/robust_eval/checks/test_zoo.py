"""The zoo of planted faults through the whole pipeline: each is flagged by name, and hides no weakness."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval.adaptive import GlobalDraws, draws_by_itself
from robust_eval.checks.card import card_of
from robust_eval.checks.examination import Examination
from robust_eval.config.budgets import budget
from robust_eval.data import Examples
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.examine import examine
from robust_eval.evaluation.workbench import Workbench
from robust_eval.metrics.accuracy import score_within
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell, Data
from robust_eval.results.comparisons import across
from robust_eval.types import StochasticModule

FLAGS = {
    "large logits": "vanishing_gradient",
    "quantised": "vanishing_gradient",
    "softmax": "logits",
    "noisy input": "deterministic",
    "coin flip": "deterministic",
    "detached": "vanishing_gradient",
    "straight through": "gradient_agrees",
    "batch statistics": "batch_dependence",
    "awake dropout": "eval_mode",
    "shattered": "smooth_loss",
    "purified": "optimises_at_inference",
    "clamped": "blind_pixels",
    "rectified": "blind_pixels",
    "absolute": "blind_pixels",
    "masked": "blind_pixels",
    "patched": "blind_pixels",
    "thresholded": "blind_pixels",
    "rooted": "blind_pixels",
}


def cell_of(network, images, labels, perturbation=None, name="net", **fields):
    """A cell of a network of one's own, as it is loaded: one that draws by itself is made to say so."""
    if not isinstance(network, StochasticModule) and draws_by_itself(network.eval(), images[:2]):
        network = GlobalDraws(network)
    data = Data("digits", Examples(images, labels, 10))
    return Cell(OwnModel(name, network, "own", {"weights": name}, "0"), data, perturbation, **fields)


def bench():
    return Workbench(lambda model: Loaded(model.network, model.weights_sha256), precision="fp32")


def verdicts(record):
    return {check.name: check.verdict for check in record.checks}


@pytest.mark.parametrize("fault", FLAGS)
def test_every_fault_is_flagged_by_its_name(zoo, fault):
    n = 12 if FLAGS[fault] in ("deterministic", "eval_mode") else 40  # the former are asked for many draws
    cell = cell_of(zoo.faults[fault], zoo.images[:n], zoo.labels[:n], Examination(eps=0.1))
    assert verdicts(examine(cell, bench()))[FLAGS[fault]] in ("warn", "fail")


def test_a_forgotten_normalisation_is_flagged(zoo):
    # the same weights without what they were trained behind
    cell = cell_of(zoo.normal.network, zoo.images, zoo.labels, Examination(eps=0.1))
    assert verdicts(examine(cell, bench()))["normalisation"] == "fail"


def test_a_look_at_the_answers_attacks_nothing_and_says_what_concerns_every_number(zoo):
    quick = verdicts(examine(cell_of(zoo.normal.network, zoo.images, zoo.labels, Examination()), bench()))
    cell = cell_of(zoo.normal.network, zoo.images, zoo.labels, Examination(level="answers"))
    record = examine(cell, bench())
    found = verdicts(record)
    assert found["normalisation"] == "fail"
    assert found == {name: verdict for name, verdict in quick.items() if card_of(name).about == "answers"}
    assert record.rows["backwards"].sum() == 0 and record.rows["broken_at"].isna().all()


@pytest.mark.parametrize("honest", ["plain", "robust", "smoothed", "normal"])
def test_no_honest_model_fails_a_check(zoo, honest):
    cell = cell_of(getattr(zoo, honest), zoo.images, zoo.labels, Examination(eps=0.1))
    found = verdicts(examine(cell, bench()))
    assert "fail" not in found.values()
    assert len(found) > 12, "most checks must have been made"


def test_an_examination_goes_on_record_image_by_image(zoo):
    images, labels = zoo.images[:40], zoo.labels[:40]
    rows = examine(cell_of(zoo.plain, images, labels, Examination(eps=0.1)), bench()).rows
    broken = (rows["broken_at"] <= 0.1 + 1e-6).to_numpy()
    assert 0 < broken.sum() < len(rows)
    strong = evaluate(cell_of(zoo.plain, images, labels, build("attack", "pgd", {"eps": 0.1})), bench()).rows
    # what the examination broke, a long walk breaks too, up to an image
    left = strong.set_index("index")["score"].loc[rows["index"]].to_numpy()
    assert (left[broken] > 0.5).sum() <= 1


def test_a_step_too_small_to_matter_is_told_from_a_robust_model(zoo):
    images, labels = zoo.images[:40], zoo.labels[:40]
    looks = [examine(cell_of(zoo.plain, images, labels, Examination(eps=0.2)), bench())]
    for fields, expected in (
        ({"steps": 5, "relative_step_size": 0.002, "look_ahead": False}, "fail"),
        ({"steps": 10}, "ok"),
    ):
        pgd = build("attack", "pgd", {"eps": 0.2, **fields})
        record = evaluate(cell_of(zoo.plain, images, labels, pgd), bench())
        (found,) = (c for c in across([record], looks)[record.key] if c.name == "beats_examination")
        assert found.verdict == expected


def test_an_examination_in_a_second_norm_asks_only_what_depends_on_it(zoo):
    look = Examination(norm="l2", eps=0.5, norm_only=True)
    record = examine(cell_of(zoo.plain, zoo.images[:40], zoo.labels[:40], look), bench())
    names = {check.name for check in record.checks}
    assert {"enough_images", "planted", "white_box_beats_noise"} <= names
    assert not any(card_of(name).any_norm for name in names)


class Bytes(nn.Module):
    """Rounds to 8 bits, which changes no decision on images that have 4."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((x * 240).round() / 240)


RADIUS = 0.2
FEWER = {
    "auto_attack": {"steps": 15, "queries": 150},
    "pgd": {"steps": 30, "restarts": 2},
    "fmn": {"norm": "linf", "steps": 60},
}


def under_strong(network, images, labels):
    """Accuracy under the linf attacks of the strong budget, with fewer steps, at a radius where some images resist."""
    scores = []
    for table in budget("strong"):
        name = table.pop("name")
        if name == "cw":  # of another norm
            continue
        method = build("attack", name, table | FEWER.get(name, {}))
        if not method.minimal_norm:
            method = dataclasses.replace(method, eps=RADIUS)
        rows = evaluate(cell_of(network, images, labels, method), bench()).rows
        scores.append(score_within(rows, RADIUS) if method.minimal_norm else rows["score"])
    return np.stack(scores).min(0).mean()


BLIND = ["clamped", "rectified", "absolute", "masked", "patched", "rooted"]


@pytest.fixture(scope="module")
def honest(zoo):
    """The accuracy of the network without a fault."""
    return under_strong(zoo.plain, zoo.images[:24], zoo.labels[:24])


@pytest.mark.parametrize(
    "fault", ["large logits", "bytes", "softmax", "detached", "straight through", *BLIND]
)
def test_a_fault_that_leaves_decisions_alone_hides_no_weakness(zoo, honest, fault):
    network = Bytes(copy.deepcopy(zoo.plain)) if fault == "bytes" else zoo.faults[fault]
    images, labels = zoo.images[:24], zoo.labels[:24]
    assert honest < 0.5
    assert under_strong(network, images, labels) <= honest + 0.02


class Coin(nn.Module):
    """Answers class 0, and one time in twenty class 1; the image moves its logits by a thousandth at most."""

    def forward(self, x):
        logits = x.new_zeros(len(x), 5)
        logits[:, 0] = 3 + 1e-3 * x.flatten(1).mean(1)
        flipped = logits.roll(1, 1)
        return torch.where(torch.rand(len(x), 1) < 0.05, flipped, logits)


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "auto_attack"])
def test_errors_that_have_nothing_to_do_with_the_image_are_no_success_of_an_attack(name):
    images = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    fields = {"steps": 10} if name != "auto_attack" else {"steps": 4, "queries": 20}
    cell = cell_of(Coin(), images, torch.zeros(200, dtype=torch.int64), build("attack", name, fields))
    record = evaluate(cell, bench())
    (accuracy,) = (m for m in record.summary if m.metric == "accuracy")
    assert accuracy.ci_low <= 0.95 <= accuracy.ci_high
    assert abs(accuracy.value - 0.95) < 0.015  # of 2,000 draws; three standard deviations
    assert {m.metric for m in record.summary} >= {"accuracy_majority", "accuracy_worst_of_k"}
