"""The tables and histograms of every order, on a run whose losses are known by hand."""

import numpy as np
import pandas as pd
import pytest

from reports.bodies import Chart, Grid
from reports.section import Source
from reports.sections import perfect_order
from reports.sections.perfect_order import _histogram, _shown
from robust_eval.identity import content_key
from robust_eval.registry import build, describe
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store


def rows(epochs=2):
    return pd.DataFrame(
        {
            "epoch": np.repeat(np.arange(1, epochs + 1), 2),
            "start": 0,
            "order": ["01", "10"] * epochs,
            "loss": [2.0, 1.0] * epochs,
            "accuracy": [0.25, 0.75] * epochs,
            "n": 4,
            "n_selection": 9,
        }
    )


@pytest.fixture
def read(tmp_path):
    """The sections of records, one for each model."""

    def run(*models, reference="validation", name="perfect_order"):
        fields = {"per_class": 8, "batch_size": 8, "clusters": 2, "epochs": 2, "reference": reference}
        analysis = build("analysis", "perfect_order", fields)
        described = describe(analysis)
        store = Store(tmp_path / reference)
        for model in models:
            spec = {"model": model, "perturbation": described._asdict()}
            labels = {
                "model": model,
                "defense": "none",
                "access": "none",
                "data": "digits",
                "family": "analysis",
            }
            labels |= {"perturbation": name, "params": described.params, "norm": "none", "seed": 0}
            store.write(Record(content_key(spec), spec, labels, (), (), {"seconds": 1.0}, rows()))
        return list(perfect_order.sections(Source(load([store.folder]))))

    return run


def test_a_line_for_each_epoch_has_the_least_the_mean_and_the_most(read):
    table, *charts = read("net")
    assert isinstance(table.body, Grid)
    assert table.body.rows[0] == ("1", "2", "25.0", "50.0", "75.0", "1.000", "1.500", "2.000")
    assert [row[0] for row in table.body.rows] == ["1", "2"]
    assert "on the 4 test images of classes 0, 1, of which one is 25.0 points" in table.note
    assert (
        "2 batches of 8, in all 2 orders" in table.note
        and "9 training images that are in no batch" in table.note
    )
    assert [chart.body.name for chart in charts if isinstance(chart.body, Chart)] == [
        "perfect_order_loss",
        "perfect_order_accuracy",
    ]


def test_what_was_chosen_by_test_images_is_told_in_the_note_and_in_each_caption(read):
    for reference, leaks in (("test", True), ("validation", False)):
        table, *charts = read("net", reference=reference)
        assert ("a leak" in table.note) == leaks
        assert all(("(a leak)" in chart.body.caption) == leaks for chart in charts)


def test_each_model_has_a_table_and_charts_of_its_own(read):
    found = read("a", "b")
    assert [s.title for s in found if s.title] == [
        "Perfect order, epoch by epoch: a",
        "Perfect order, epoch by epoch: b",
    ]
    names = [s.body.name for s in found if isinstance(s.body, Chart)]
    assert len(set(names)) == len(names) == 4


def test_of_other_analyses_there_is_nothing(read):
    assert read("net", name="weight_norm") == []


def test_histograms_hold_every_network_once():
    generator = np.random.default_rng(0)
    many = pd.concat([rows(1)] * 200, ignore_index=True)
    many["loss"], many["n"] = generator.normal(size=400), 100
    many["accuracy"] = generator.integers(10, 95, 400) / 100
    for column in ("loss", "accuracy"):
        found = _histogram(many, column, 1)
        assert found["networks"].sum() == 400 and len(found) <= 45
        assert (found["high"] > found["low"]).all()
    same = _histogram(rows(1).assign(accuracy=0.5), "accuracy", 1)
    assert same.loc[same["networks"] > 0, ["low", "high"]].to_numpy().tolist() == [[37.5, 62.5]]


def test_the_epochs_of_the_thesis_are_drawn_or_else_the_last_two():
    assert _shown(rows(13), (12, 13)) == [12, 13]
    assert _shown(rows(5), (1, 2, 5, 6)) == [1, 2, 5]
    assert _shown(rows(4), (12, 13)) == [3, 4]
    assert _shown(rows(1), (12, 13)) == [1]
