"""Curves are counted from the rows of records: by hand, and never at odds with the numbers of the tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import reports
from reports.charts.foremost import foremost
from reports.sections import calibration, convergence, radius
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.classification import calibration_error
from robust_eval.metrics.intervals import wilson
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N = 8
CLEAN = [1.0] * 6 + [0.0] * 2


def record(model="net", *, family="attack", name="pgd", norm="linf", eps=8 / 255, access="none", defense="none",
           train_seed=0, params=None, **rows: Any) -> Record:  # fmt: skip
    params = params or {}
    described = {"kind": family, "name": name, "params": params, "version": 1, "at": [norm, eps]}
    spec = {"model": [model, train_seed], "data": {"fingerprint": "f", "n": N}, "perturbation": described,
            "defense": defense, "access": access}  # fmt: skip
    table = pd.DataFrame(
        {
            "index": range(N), "clean_score": CLEAN, "score": CLEAN, "attacked": np.array(CLEAN) > 0,
            "distance": np.nan, "step": -1, "label": 0, "prediction": 0, "confidence": 0.95, **rows,
        }
    )  # fmt: skip
    labels = {
        "model": model, "arch": "net", "regularizer": "erm", "train_seed": train_seed, "defense": defense,
        "access": access, "data": "digits", "family": family, "perturbation": name, "params": params, "norm": norm,
        "eps": eps, "severity": None, "seed": 0, "model_key": f"{model} {train_seed}",
    }  # fmt: skip
    total = float(table["score"].sum())
    number = Measurement("accuracy", total / N, *wilson(total, N), N)
    return Record(content_key(spec), spec, labels, (number,), (), {"seconds": 1.0}, table)


def smallest(model="net", distance=(0.1, 0.4, 0.6, 2.0, np.nan, 0.2, 0, 0), **fields):
    broken = [1.0 if np.isnan(far) else 0.0 for far in distance]
    score = [a * b for a, b in zip(CLEAN, broken, strict=True)]
    return record(
        model, norm="l2", eps=None, **{"name": "cw", "score": score, "distance": distance, **fields}
    )


@pytest.fixture
def entries(tmp_path):
    def read(*records):
        for one in records:
            Store(tmp_path / "run").write(one)
        return load([tmp_path / "run"]).entries

    return read


def test_a_curve_is_the_share_that_is_still_right_at_each_radius(entries):
    frame = radius.against_radius(entries(smallest()))
    distances = [0.1, 0.4, 0.6, 2.0, np.inf, 0.2]
    assert len(frame) == radius.STEPS + 1 and set(frame["series"]) == {"net"}
    for at, accuracy in zip(frame["radius"], frame["accuracy"], strict=True):
        right = sum(far > at + 1e-6 for far in distances)
        assert accuracy == pytest.approx(100 * right / N, abs=1e-3)
    first = frame.iloc[0]
    assert (first["low"], first["high"]) == pytest.approx([100 * p for p in wilson(6.0, N)], abs=1e-3)


def test_the_curve_of_two_attacks_is_the_worst_of_both(entries):
    other = smallest(name="deepfool", distance=(0.3, 0.1, 0.7, 0.5, np.nan, 0.1, 0, 0))
    frame = radius.against_radius(entries(smallest(), other))
    nearest = [0.1, 0.1, 0.6, 0.5, np.inf, 0.1]
    for at, accuracy in zip(frame["radius"], frame["accuracy"], strict=True):
        assert accuracy == pytest.approx(100 * sum(far > at + 1e-6 for far in nearest) / N, abs=1e-3)


def test_a_point_is_the_worst_case_of_the_table(entries, tmp_path):
    fixed = record(norm="l2", eps=0.5, score=[1, 1, 0, 1, 1, 1, 0, 0])
    frame = radius.against_radius(entries(smallest(), fixed))
    (point,) = frame[frame["kind"] == "point"].to_dict("records")
    results = load([tmp_path / "run"]).results
    (worst,) = results[results["perturbation"] == "worst_case"].to_dict("records")
    assert point["radius"] == 0.5 and point["accuracy"] == pytest.approx(100 * worst["value"])
    assert (point["low"], point["high"]) == pytest.approx(
        (100 * worst["ci_low"], 100 * worst["ci_high"]), abs=1e-3
    )


def test_fixed_radii_are_joined_from_the_clean_images_on(entries):
    frame = radius.against_radius(
        entries(record(eps=2 / 255, score=[1] * 5 + [0] * 3), record(eps=8 / 255, score=[1] * 2 + [0] * 6))
    )
    assert list(frame["radius"]) == [0, 2, 8] and list(frame["accuracy"]) == [75, 62.5, 25]
    assert set(frame["kind"]) == {"marked"}


def test_one_radius_alone_is_no_curve(entries):
    assert radius.against_radius(entries(record())).empty


def test_a_defended_model_is_drawn_where_an_attack_went_through_the_defense(entries):
    transfer = smallest(defense="mixing", access="transfer")
    assert radius.against_radius(entries(transfer)).empty
    adaptive = record(norm="l2", eps=0.5, defense="mixing", access="adaptive", score=[0] * N)
    frame = radius.against_radius(entries(transfer, adaptive))
    assert set(frame["series"]) == {"net + mixing"} and frame.iloc[-1]["accuracy"] == 0


def test_seeds_are_a_mean_in_a_band_of_their_deviation(entries):
    found = [record(eps=k / 255, train_seed=seed, score=[1] * (2 + 2 * seed) + [0] * (6 - 2 * seed))
             for k in (2, 8) for seed in (0, 1)]  # fmt: skip
    found = [
        replace(r, spec={**r.spec, "model": {"recipe": {"seed": r.labels["train_seed"]}}}) for r in found
    ]
    found = [replace(r, key=content_key(r.spec)) for r in found]
    last = radius.against_radius(entries(*found)).iloc[-1]
    spread = 100 * np.std([0.25, 0.5], ddof=1)
    assert last["series"] == "net" and last["accuracy"] == 37.5
    assert (last["low"], last["high"]) == pytest.approx((37.5 - spread, 37.5 + spread), abs=1e-3)


def test_an_image_counts_until_the_step_at_which_it_broke(entries):
    step, score = [0, 3, 3, -1, -1, 10, -1, -1], [0, 0, 0, 1, 1, 0, 0, 0]
    frame = convergence.after_each_step(entries(record(params={"steps": 20}, step=step, score=score)))
    assert dict(zip(frame["step"], frame["accuracy"], strict=True)) == {0: 62.5, 3: 37.5, 10: 25, 20: 25}
    assert frame.iloc[-1]["accuracy"] == 100 * sum(score) / N  # the number of the table


def test_the_largest_radius_of_an_attack_is_drawn(entries):
    found = [record(eps=k / 255, step=[1, 2] * 4, score=[0] * N) for k in (2, 8)]
    assert set(convergence.after_each_step(entries(*found))["panel"]) == {"pgd linf 8/255"}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"step": [1] * N}, id="a single step"),
        pytest.param({"step": [0] * N}, id="a library that tells no steps"),
        pytest.param({"step": [20] * N, "params": {"steps": 20}}, id="a model that draws"),
        pytest.param({"step": [1, 5] * 4, "access": "transfer", "defense": "mixing"}, id="by transfer"),
        pytest.param({"step": [1, 5] * 4, "eps": None}, id="the smallest perturbation"),
        pytest.param({"step": [-1] * N}, id="nothing broken"),
    ],
)
def test_steps_that_are_not_those_of_breaking_are_left_out(entries, fields):
    assert convergence.after_each_step(entries(record(score=[0] * N, **fields))).empty


def test_the_bins_are_those_of_the_calibration_error(entries):
    confidence = [0.05, 0.35, 0.36, 0.61, 0.97, 0.98, 0.99, 1.0]
    prediction = [1, 0, 1, 0, 0, 0, 1, 0]
    clean = record(
        family="clean", name="none", norm="none", eps=None, confidence=confidence, prediction=prediction
    )
    frame = calibration.binned(entries(clean))
    weight = frame["images"] / N
    error = float((weight * (frame["accuracy"] - frame["confidence"]).abs()).sum()) / 100
    right = np.array(prediction) == 0
    assert frame["images"].sum() == N
    assert error == pytest.approx(calibration_error(np.array(confidence), right), abs=1e-4)
    assert frame["error"].iloc[0] == pytest.approx(error, abs=1e-4)


def test_without_confidences_there_is_no_diagram(entries):
    clean = record(family="clean", name="none", norm="none", eps=None)
    bare = replace(clean, rows=clean.rows.drop(columns="confidence"))
    assert calibration.binned(entries(bare)).empty


def test_fifty_models_are_drawn_with_twelve_in_colour_and_the_caption_says_so(entries, tmp_path):
    found = [
        smallest(f"m{i:02}", distance=[0.01 * (i + 1) * far for far in (1, 2, 3, 4, 5, 6, 0, 0)])
        for i in range(50)
    ]
    frame = foremost(radius.against_radius(entries(*found)), 12)
    assert set(frame["shown"]) == {*(f"m{i}" for i in range(38, 50)), "38 others"}
    out = tmp_path / "out"
    reports.write([tmp_path / "run"], out)
    assert "in colour are the 12 of 50 with the highest mean" in (out / "index.html").read_text()
    assert (out / "figures" / "radius.pdf").read_bytes().startswith(b"%PDF")


def test_figures_of_an_earlier_report_go_and_those_of_others_stay(entries, tmp_path):
    assert entries(record(family="clean", name="none", norm="none", eps=None))
    figures = tmp_path / "out" / "figures"
    figures.mkdir(parents=True)
    for name in ("radius.svg", "radius.pdf", "training.svg", "analysis_gone.pdf", "mine.svg", "radius.txt"):
        (figures / name).write_text("old")
    reports.write([tmp_path / "run"], tmp_path / "out")
    kept = {path.name for path in figures.iterdir()}
    assert kept == {"mine.svg", "radius.txt", "reliability.svg", "reliability.pdf"}
