"""Turning and shifting beside perturbations with a radius: cells, checks and reports keep the two apart."""

from pathlib import Path

import pandas as pd
import pytest

from robust_eval.results.store import Store

pytestmark = pytest.mark.usefixtures("undrawn")
GRID = ("--set", "rotation_translation.angles=5", "--set", "rotation_translation.shifts=3")
STRENGTH = "rotation_translation (translation=0.1) spatial ±30°"


def test_angles_have_a_column_of_their_own_and_no_part_in_the_worst_case_of_a_norm(done, own):
    out = done(*own, "--attacks", "fgsm,bim,rotation_translation", "--eps", "8/255", *GRID)
    assert "spatial ±30°" in out
    table = Path("out/report/table.md").read_text()
    assert STRENGTH in table
    results = pd.read_csv("out/report/results.csv")
    worst = results[results["perturbation"] == "worst_case"]
    assert set(worst["norm"]) == {"linf"} and "rotation" not in worst["params"].item()
    (record,) = (r for r in Store(Path("out")).records() if r.labels["norm"] == "spatial")
    assert record.labels["eps"] == 30
    assert {check.name: check.verdict for check in record.checks}["constraint"] == "ok"


def test_two_shifts_at_one_angle_are_two_columns(done, own):
    done(*own, "--attacks", "rotation_translation", *GRID)
    done(*own, "--attacks", "rotation_translation", *GRID, "--set", "rotation_translation.translation=0.3")
    table = Path("out/report/table.md").read_text()
    assert STRENGTH in table and STRENGTH.replace("0.1", "0.3") in table


def test_a_radius_for_all_attacks_is_not_for_those_with_units_of_their_own(cli, own, done):
    out = done(
        *own, "--attacks", "fgsm,fgsm_normalised,rotation_translation", "--eps", "4/255", *GRID,
        "--set", "fgsm_normalised.std=[0.25]", "--dry-run",
    )  # fmt: skip
    assert "fgsm linf 4/255" in out and "rotation_translation spatial ±30°" in out
    assert f"fgsm_normalised linf {0.1 * 0.25 * 255:g}/255" in out
    outcome = cli(*own, "--attacks", "rotation_translation", "--eps", "8/255")
    assert outcome.code == 2
    assert "no attack of this run takes a radius in linf; rotation_translation takes none" in outcome.err
