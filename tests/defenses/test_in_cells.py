"""Defenses as they are planned and measured: the pool only where it is mixed with, and certificates on record."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import defenses
from robust_eval import Classifier, Rng, attack, corruption
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.data import Examples
from robust_eval.errors import DataError
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.summary import rescored, summarise
from robust_eval.evaluation.workbench import Workbench
from robust_eval.metrics.intervals import wilson
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import build, find, names
from robust_eval.results.cell import Cell, Data
from robust_eval.results.store import Store

assert defenses  # its import registers them
POOLLESS = [name for name in names("defense") if not find("defense", name).needs_pool]


def examples(n=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Examples(torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 3, 3)


def source():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return OwnModel("net", network, "test", {"weights": "net"}, "0" * 64)


def labelled():
    """Images under the labels that the network gives them, but for the first three."""
    data = examples()
    with torch.no_grad():
        labels = source().network(data.images).argmax(1)
    labels[:3] = (labels[:3] + 1) % 3
    return Examples(data.images, labels, 3)


def bench(batch_size=240):
    return Workbench(lambda model: Loaded(model.network, model.weights_sha256), batch_size=batch_size)


def smoothing(**params):
    return build("defense", "gaussian_smoothing", {"sigma": 0.1, "copies": 4, **params})


SOURCE, BARE, MIXABLE = source(), Data("data", labelled()), Data("data", labelled(), examples(30, seed=1))
CERTIFIED = Cell(SOURCE, BARE, None, smoothing(certify_draws=200, select_draws=20))


@pytest.fixture(scope="module")
def certified():
    return evaluate(CERTIFIED, bench())


@pytest.fixture
def bare(tmp_path):
    """A file with test images alone, and a model for them."""
    data = labelled()
    np.savez(tmp_path / "bare.npz", images=data.images.numpy(), labels=data.labels.numpy())
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
    )

    def planned(*names):
        tables = {
            "data": {"name": "bare.npz"},
            "model": [{"architecture": "net.py:make"}],
            "defense": list(names),
            "attack": [{"name": "fgsm"}],
        }
        return plan(parse(tables, where="test", folder=tmp_path))

    return planned


def test_without_training_images_every_defense_that_does_not_mix_can_be_measured(bare):
    cells = bare(*POOLLESS)
    assert all(cell.data.pool is None and cell.spec["pool"] is None for cell in cells)
    defended = [cell for cell in cells if cell.defense is not None and cell.perturbation is None]
    assert sorted(cell.labels["defense"] for cell in defended) == POOLLESS
    shared = bench()
    for cell in defended:
        assert evaluate(cell, shared).summary[0].n == 24


def test_only_the_defenses_that_mix_are_named_where_there_is_nothing_to_mix_with(bare):
    with pytest.raises(DataError, match=r"bare\.npz: sum_augmentation mixes with training images") as error:
        bare("sum_augmentation", *POOLLESS)
    assert not any(name in str(error.value) for name in POOLLESS)


@pytest.mark.parametrize("name", names("defense"))
def test_the_pool_is_part_of_the_key_where_it_is_mixed_with(name):
    method = build("defense", name, {})
    with_pool, without = (Cell(SOURCE, data, None, method) for data in (MIXABLE, BARE))
    other = Cell(SOURCE, replace(MIXABLE, pool=examples(30, seed=2)), None, method)
    if method.needs_pool:
        assert len({with_pool.key, without.key, other.key}) == 3
        assert with_pool.spec["pool"] == MIXABLE.pool.fingerprint
        with pytest.raises(DataError, match=f"'{name}' mixes with training images, and data has none"):
            evaluate(without, bench())
    else:
        assert with_pool.key == without.key == other.key and with_pool.spec["pool"] is None
        assert torch.equal(*(bench().prepare(cell).clean.prediction for cell in (with_pool, without)))


@pytest.mark.parametrize("name", names("defense"))
def test_the_draws_are_part_of_the_key_where_there_are_any(name):
    method = build("defense", name, {})
    few, many = (Cell(SOURCE, MIXABLE, None, method, draws=draws) for draws in (3, 5))
    assert (few.key != many.key) is method.stochastic
    assert ("accuracy_majority" in {m.metric for m in evaluate(few, bench()).summary}) is method.stochastic


def test_the_clean_cell_of_a_defense_that_certifies_holds_a_certificate_for_each_image(certified):
    rows, x = certified.rows, BARE.examples.images
    found = CERTIFIED.defense.certify(
        Classifier(SOURCE.network), x, rng=Rng(0).for_batch(len(x)).child("certify")
    )
    assert rows["certified_prediction"].tolist() == found.prediction.tolist()
    assert rows["certified_radius"].tolist() == found.radius.tolist()
    assert ((rows["certified_prediction"] >= 0) == (rows["certified_radius"] > 0)).all()
    assert evaluate(CERTIFIED, bench(50)).rows.equals(rows)


def test_certified_accuracy_counts_the_right_classes_whose_radius_is_larger(certified):
    rows = certified.rows
    measured = {m.eps: m for m in certified.summary if m.metric == "certified_accuracy"}
    assert list(measured) == [0.0, 0.25, 0.5, 0.75, 1.0]
    limit = CERTIFIED.defense.largest_certificate
    assert 0.18 < limit < 0.19 and rows["certified_radius"].max() <= limit
    for eps, number in measured.items():
        if eps >= limit:  # of no model could more be said with so many draws
            assert (number.value, number.ci_low, number.ci_high, number.n) == (None, None, None, 24)
            continue
        count = sum(
            p == label and r > eps
            for p, label, r in zip(
                rows["certified_prediction"], rows["label"], rows["certified_radius"], strict=True
            )
        )
        assert (number.value, number.n) == (count / 24, 24)
        assert (number.ci_low, number.ci_high) == wilson(float(count), 24)
    assert 0 < measured[0.0].value < 1


def test_no_image_is_certified_beyond_the_nearest_plane(certified):
    # the smoothed radius of a linear model is the distance to its plane; with several classes at most to the nearest
    rows, x = certified.rows, BARE.examples.images
    weight, bias = SOURCE.network[1].weight.detach(), SOURCE.network[1].bias.detach()
    logits = x.flatten(1) @ weight.T + bias
    top, best = logits.max(1)
    distances = (top[:, None] - logits) / (weight[best][:, None] - weight).norm(dim=2)
    nearest = distances.scatter(1, best[:, None], torch.inf).amin(1).numpy()
    held = rows["certified_prediction"] >= 0
    assert (rows["certified_prediction"][held] == best.numpy()[held]).all()
    assert (rows["certified_radius"][held] <= nearest[held]).all()
    assert (rows["certified_radius"][held] > nearest[held] / 4).any()


def test_a_certificate_stands_on_record_and_is_summarised_from_it_alone(certified, tmp_path):
    store = Store(tmp_path)
    store.write(certified)
    (read,) = store.records()
    assert summarise(CERTIFIED, read.rows) == certified.summary == rescored(read, CERTIFIED).summary


@pytest.mark.parametrize(
    "cell",
    [
        replace(CERTIFIED, defense=smoothing()),
        replace(CERTIFIED, defense=None),
        replace(CERTIFIED, perturbation=attack("fgsm"), access="adaptive"),
        replace(CERTIFIED, perturbation=corruption("contrast")),
    ],
    ids=["not asked for", "no defense", "attacked", "corrupted"],
)
def test_other_cells_hold_no_certificate(cell):
    record = evaluate(cell, bench())
    assert not [name for name in record.rows if name.startswith("certified")]
    assert not [m for m in record.summary if m.metric.startswith("certified")]
