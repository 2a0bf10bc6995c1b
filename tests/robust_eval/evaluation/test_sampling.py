"""A cell with an estimate attacks some of its images, the same for the same seed, as it would attack all of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import defenses  # noqa: F401 - registers the methods
from robust_eval import attack
from robust_eval.data import Examples
from robust_eval.data.mask import as_mask
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.summary import rescored
from robust_eval.evaluation.workbench import Workbench
from robust_eval.metrics.intervals import wilson
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell, Data
from robust_eval.results.estimates import is_estimate, sampled
from robust_eval.results.record import Record
from robust_eval.types import StochasticModule

N, WRONG = 600, 60


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


NET = network()
X = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    LABELS = NET(X).argmax(1)
LABELS[:WRONG] = (LABELS[:WRONG] + 1) % 4
DATA = Data("data", Examples(X, LABELS, 4))
PGD = attack("pgd", eps=0.03, steps=5)


def bench():
    return Workbench(lambda model: Loaded(model.network, model.weights_sha256))


def cell(method=PGD, *, net=NET, estimate=0.03, **fields):
    source = OwnModel("net", net, "test", {"weights": "a"}, "0" * 64)
    return Cell(source, DATA, method, estimate=estimate, **fields)


@pytest.fixture(scope="module")
def whole():
    return evaluate(cell(estimate=None), bench())


@pytest.fixture(scope="module")
def found():
    return evaluate(cell(), bench())


def test_the_images_asked_fare_as_they_do_where_all_are(whole, found):
    rows = whole.rows.set_index("index").loc[found.rows["index"]].reset_index()
    same = [name for name in rows if name in found.rows]
    pd.testing.assert_frame_equal(found.rows[same], rows[same], check_dtype=False)


def test_the_number_says_that_it_is_an_estimate_and_is_near_the_truth(whole, found):
    (number,) = found.summary
    truth = whole.summary[0].value
    assert number.estimated_for == N and 100 < number.n < 300 and is_estimate(found)
    assert abs(number.value - truth) < 0.03
    low, high = wilson(number.value * N, N)
    assert number.ci_low < low and number.ci_high > high
    told = found.provenance["estimate"]
    assert (told["attacked"], told["of"], told["strata"], told["half_width"]) == (number.n, N, 10, 0.03)
    assert told["gradients"] == N - WRONG and told["high"] - told["low"] <= 0.06


def test_what_is_wrong_already_is_known_and_not_attacked(found):
    known = sampled(found.rows)
    assert (known.sure, known.sure_score, known.images) == (WRONG, 0.0, N)
    assert known.attacked == found.rows["attacked"].sum() == found.summary[0].n


def test_the_same_seed_asks_the_same_images_and_another_one_others(found):
    again, other = evaluate(cell(), bench()), evaluate(cell(seed=1), bench())
    pd.testing.assert_frame_equal(again.rows, found.rows)
    assert set(other.rows["index"]) != set(found.rows["index"])


def test_the_key_says_how_closely_and_is_as_ever_without():
    keys = {cell(estimate=width).key for width in (None, 0.03, 0.01)}
    assert len(keys) == 3 and "estimate" not in cell(estimate=None).spec


def test_asked_for_too_closely_it_attacks_all_and_the_record_is_like_any_other(whole):
    record = evaluate(cell(estimate=1e-6), bench())
    pd.testing.assert_frame_equal(record.rows, whole.rows)
    assert record.summary == whole.summary and not is_estimate(record)


def test_its_numbers_can_be_computed_anew_from_its_rows(whole, found):
    assert rescored(found, cell()).summary == found.summary
    assert Record.from_json(found.to_json(), found.rows).summary == found.summary
    assert "estimated_for" not in str(whole.to_json())


def test_adversarials_come_in_the_order_of_the_rows():
    kept = []
    evaluate(cell(), bench(), keep=lambda _, x, rows, still: kept.append((x, rows, still)))
    ((x, rows, still),) = kept
    clean = X[torch.tensor(rows["index"].to_numpy())]
    assert len(x) == len(rows) == len(still) < N
    moved = (x - clean).abs().flatten(1).amax(1).numpy()
    np.testing.assert_allclose(moved, rows["distance"], atol=1e-6)
    assert (rows["index"].diff().dropna() > 0).all()


def test_a_mask_holds_where_some_images_are_attacked():
    mask = as_mask(np.eye(8), (1, 8, 8), N)
    record = evaluate(cell(mask=mask), bench())
    assert (
        record.summary[0].estimated_for == N
        and {c.name: c.verdict for c in record.checks}["constraint"] == "ok"
    )


class Steep(nn.Module):
    """The network with logits in which most gradients vanish."""

    def forward(self, x):
        return 10 * torch.tanh(1e4 * NET(x))


class Drawing(StochasticModule):
    """The network with noise on its logits."""

    stochastic = True

    def __init__(self):
        super().__init__()
        self.net = NET

    def redraw(self, rng):
        self.noise = rng.normal(4)

    def forward(self, x):
        return self.net(x) + 0.01 * self.noise


@pytest.mark.parametrize(
    ("method", "net", "why"),
    [
        (PGD, Steep(), "gradients vanish on"),
        (PGD, Drawing(), "the model draws"),
        (attack("rotation_translation", angles=2, shifts=1), NET, "no norm"),
    ],
    ids=["masked", "drawing", "spatial"],
)
def test_where_the_proxy_says_nothing_images_are_drawn_plainly_and_it_says_why(method, net, why):
    record = evaluate(cell(method, net=net, estimate=0.06, draws=2), bench())
    told = record.provenance["estimate"]
    assert why in told["plain_because"] and told["strata"] == 1 and told["attacked"] < N - WRONG
    assert set(record.rows["stratum"]) <= {-1, 0} and is_estimate(record)


def test_few_images_are_drawn_plainly():
    few = Data("few", DATA.examples.first(200))
    record = evaluate(replace(cell(estimate=0.1), data=few), bench())
    assert "too few for strata" in record.provenance["estimate"]["plain_because"]


def test_through_a_defense_it_is_estimated_as_well():
    defended = cell(defense=build("defense", "bit_depth", {}), access="adaptive", estimate=0.05)
    record = evaluate(defended, bench())
    assert record.summary[0].estimated_for == N
