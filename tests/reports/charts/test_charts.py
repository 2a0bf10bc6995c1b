"""Each chart draws what its table holds: nothing for an empty one, and nothing of a number that is missing."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pandas as pd
import pytest

from reports.charts.analysis import analysis
from reports.charts.attacks import attacks
from reports.charts.clean_vs_worst import clean_vs_worst, front
from reports.charts.convergence import convergence
from reports.charts.corruptions import by_severity, side_by_side
from reports.charts.deformations import deformations
from reports.charts.drawing import svg
from reports.charts.histograms import histograms
from reports.charts.look import COLUMN, PAGE, WIDE
from reports.charts.radius import radius
from reports.charts.reliability import reliability
from reports.charts.training import training

NAME = '<script>=cmd()</script>\n\\input{x} "quoted"'
ROW: dict[str, Any] = {
    "model": NAME, "defense": "none", "series": NAME, "shown": NAME, "column": "pgd linf 8/255", "type": "fog",
    "severity": 3, "accuracy": 62.5, "low": 50.0, "high": 75.0, "told": f"{NAME}: 62.5 %", "clean": 90.0,
    "clean_low": 80.0, "clean_high": 95.0, "panel": "linf", "radius": 1.0, "kind": "marked", "step": 1,
    "marked": True, "confidence": 70.0, "images": 8, "set": "test", "pass": 1, "line": NAME, "split": "", "x": 1.0,
    "y": 0.5, "epoch": "epoch 1", "networks": 3, "ground": 0,
}  # fmt: skip
CHARTS = {
    "attacks": attacks,
    "clean_vs_worst": clean_vs_worst,
    "by_severity": by_severity,
    "side_by_side": side_by_side,
    "radius": radius,
    "convergence": convergence,
    "reliability": reliability,
    "deformations": deformations,
    "training": training,
    "lines": partial(analysis, x="x", y="y", bars=False, shares=False),
    "shares": partial(analysis, x="x", y="y", bars=False, shares=True),
    "bars": partial(analysis, x="x", y="y", bars=True, shares=False),
    "histograms": partial(histograms, x="loss"),
}
VALUE = {"lines": "y", "shares": "y", "bars": "y", "histograms": "networks"}


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("size", [PAGE, COLUMN, WIDE], ids=lambda size: size.name)
def test_a_chart_is_drawn_for_each_size_with_names_as_text(name, size):
    drawn = svg(CHARTS[name](pd.DataFrame([ROW, {**ROW, "x": 2.0}]), size), size)
    assert drawn.startswith("<svg") and "<script" not in drawn and "NaN" not in drawn


@pytest.mark.parametrize("name", CHARTS)
def test_a_table_without_numbers_has_no_chart(name):
    draw = CHARTS[name]
    assert draw(pd.DataFrame(columns=list(ROW)), PAGE) is None
    assert draw(pd.DataFrame([{**ROW, VALUE.get(name, "accuracy"): math.nan}]), PAGE) is None


@pytest.mark.parametrize("name", CHARTS)
def test_a_number_that_is_missing_is_not_drawn(name):
    column = VALUE.get(name, "accuracy")
    failed = {**ROW, column: math.nan, "told": "failed", "series": "other", "shown": "other", "line": "other"}
    spec = CHARTS[name](pd.DataFrame([ROW, failed]), PAGE).to_dict()
    (rows,) = spec["datasets"].values()
    assert [row[column] for row in rows] == [ROW[column]]


def test_the_front_is_what_no_other_beats_in_both():
    places = [(90, 10), (80, 40), (85, 40), (70, 60), (60, 50), (90, 10)]
    points = pd.DataFrame(
        [
            {**ROW, "series": f"m{i}", "clean": float(clean), "accuracy": float(worst)}
            for i, (clean, worst) in enumerate(places)
        ]
    )
    found = front(points)
    assert list(found["front"]) == [True, False, True, True, False, True]
    assert [label for label in found["label"] if label] == ["m0", "m2", "m3"]  # the last stands on the first


def test_fronts_of_two_threats_know_nothing_of_each_other():
    points = pd.DataFrame(
        [
            {**ROW, "column": "linf", "clean": 90.0, "accuracy": 50.0},
            {**ROW, "column": "l2", "clean": 80.0, "accuracy": 40.0},
        ]
    )
    assert front(points)["front"].all()
