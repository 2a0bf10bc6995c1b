"""The section on how models were trained: its figures are those of the passes that the records hold."""

import pandas as pd
import pytest

import reports
from reports.bodies import Chart, Grid
from reports.section import Source
from reports.sections.training import drops, sections
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store


def passes(curve, curriculum="shuffled", evaluations=100, **columns):
    n = len(curve)
    return {
        "curriculum": curriculum,
        "chosen_by_class": [40, 60],
        "evaluations": [evaluations * (i + 1) for i in range(n)],
        "steps": [10 * (i + 1) for i in range(n)],
        "train_accuracy": [1.0] * n,
        "validation_accuracy": curve,
        "used": [0.5] * n,
        **columns,
    }


@pytest.fixture
def tables(tmp_path):
    """Return the sections of a run with these trainings: name, seed and passes of each."""

    def make(*trainings):
        store = Store(tmp_path / "run")
        for name, seed, told in trainings:
            spec = {"model": {"recipe": {"name": name, "seed": seed}}, "data": {"fingerprint": "f", "n": 8}}
            labels = {
                **dict.fromkeys(("defense", "access", "perturbation", "norm"), "none"),
                "model": name,
                "arch": "net",
                "regularizer": "erm",
                "train_seed": seed,
                "data": "shapes",
                "family": "clean",
                "seed": 0,
                "model_key": f"{name} {seed}",
            }
            rows = pd.DataFrame({"index": range(8), "score": [1.0] * 8, "attacked": False})
            number = Measurement("accuracy", 1.0, 0.7, 1.0, 8)
            leak = {"leak": "said"} if name == "leaky" else {}
            provenance = {"seconds": 1.0, **({} if told is None else {"training": {"passes": told, **leak}})}
            store.write(Record(content_key(spec), spec, labels, (number,), (), provenance, rows))
        return list(sections(Source(load([tmp_path / "run"]))))

    return make


def row(section, model):
    body = section.body
    assert isinstance(body, Grid)
    return next(dict(zip(body.heads, cells, strict=True)) for cells in body.rows if cells[0] == model)


def test_the_mean_of_a_curve_and_the_sum_of_its_drops(tables):
    table, chart = tables(("net", 0, passes([0.2, 0.6, 0.5, 0.7, 0.6])))
    found = row(table, "net")
    assert (found["last"], found["mean"], found["drops"]) == ("60.0", "52.0", "20.0")
    assert (found["steps"], found["evaluations"], found["used"]) == ("50", "500", "50.0")
    assert found["chosen per class"] == "40 to 60"
    assert isinstance(chart.body, Chart)


def test_seeds_share_a_line_and_the_difference_is_taken_seed_by_seed(tables):
    table, _ = tables(
        ("plain", 0, passes([0.1, 0.3])),
        ("plain", 1, passes([0.5, 0.7])),
        ("ordered", 0, passes([0.2, 0.4], "loss_order", evaluations=300)),
        ("ordered", 1, passes([0.6, 0.8], "loss_order", evaluations=300)),
    )
    found = row(table, "ordered")
    assert found["mean"] == "50.0 ± 28.3" and found["mean, against plain"] == "+10.0 ± 0.0"
    assert found["evaluations"] == "600" and found["curriculum"] == "loss_order"
    assert row(table, "plain")["mean, against plain"] == "–"
    assert not table.folded


def test_test_images_are_what_counts_where_they_were_watched(tables):
    table, _ = tables(("net", 0, passes([0.1, 0.2], test_accuracy=[0.3, 0.5])))
    assert row(table, "net")["last"] == "50.0" and "those on test images" in table.note


def test_without_held_out_images_it_says_that_the_figures_are_of_training_images(tables):
    told = passes([0.1, 0.2])
    del told["validation_accuracy"]
    table, _ = tables(("net", 0, told))
    assert row(table, "net")["last"] == "100.0" and "those on training images" in table.note


def test_wrong_labels_have_their_share_by_number_and_by_weight(tables):
    table, _ = tables(("net", 0, passes([0.1, 0.2], wrong_chosen=[0.4, 0.2], wrong_weight=[0.1, 0.1])))
    found = row(table, "net")
    assert (found["wrong labels"], found["their weight"]) == ("30.0", "10.0")


def test_nothing_is_said_where_nothing_was_trained_or_in_one_pass_only(tables):
    assert tables(("own", None, None), ("short", 0, passes([0.5]))) == []


def test_a_curve_without_falls_has_no_drops():
    assert drops([0.1, 0.1, 0.4]) == 0.0
    assert drops([0.5, 0.4, 0.6, 0.1]) == pytest.approx(0.6)


def test_the_section_is_on_the_page(tables, tmp_path):
    tables(("net", 0, passes([0.1, 0.2])), ("ordered", 0, passes([0.3, 0.2], "loss_order")))
    reports.write([tmp_path / "run"], tmp_path / "run/report")
    page = (tmp_path / "run/report/index.html").read_text(encoding="utf-8")
    assert "against net" in page and (tmp_path / "run/report/figures/training.svg").exists()


def test_test_images_that_chose_are_told_and_so_are_unequal_costs(tables):
    table, _ = tables(
        ("net", 0, passes([0.1, 0.2])), ("leaky", 0, passes([0.3, 0.2], "loss_delta", evaluations=200))
    )
    assert "Test images decided what leaky trained on: a leak" in table.note
    assert "spent different numbers of evaluations" in table.note


def test_equal_costs_and_honest_choices_need_no_words(tables):
    table, _ = tables(("net", 0, passes([0.1, 0.2])), ("ordered", 0, passes([0.3, 0.2], "loss_order")))
    assert "leak" not in table.note and "different numbers" not in table.note
