"""A chart as data for the page: once, as text, with a legend to choose by, drawn without `unsafe-eval`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from reports.bodies import Chart
from reports.charts.bundle import FUNCTION, bundle
from reports.charts.spec import embedded
from reports.charts.training import training

NAME = "</script><!-- & <b>'net' \\ \"quoted\""
CHROMIUM = shutil.which("chromium")
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


def chart() -> Chart:
    rows = [
        {"series": name, "shown": name, "set": kind, "pass": i, "accuracy": 10.0 * i, "low": 1.0, "high": 99.0,
         "told": f"{name}; pass {i}", "unused": "never drawn"}
        for name in (NAME, "other")
        for kind in ("training", "test")
        for i in (1, 2)
    ]  # fmt: skip
    return Chart("training", "caption", training(pd.DataFrame(rows)))


def test_names_are_text_and_come_back_whole():
    text = embedded(chart())
    assert not re.search("[<>&]", text)
    (rows,) = json.loads(text)["datasets"].values()
    assert {row["series"] for row in rows} == {NAME, "other"}


def test_each_row_is_there_once_with_the_columns_that_are_drawn():
    text = embedded(chart())
    (rows,) = json.loads(text)["datasets"].values()
    assert len(rows) == 8 and "never drawn" not in text and {"accuracy", "low", "told", "set"} <= set(rows[0])


def test_marks_tell_their_number_and_the_legend_chooses():
    units = json.loads(embedded(chart()))["spec"]["layer"]
    assert units[-1]["encoding"]["tooltip"]["field"] == "told"
    (choice,) = [param for unit in units for param in unit.get("params", [])]
    assert choice["bind"] == "legend" and choice["select"]["fields"] == ["shown"]
    assert all(unit["encoding"]["opacity"]["condition"]["param"] == choice["name"] for unit in units)


def test_the_colour_of_text_is_the_pages():
    assert json.loads(embedded(chart()))["config"]["axis"]["labelColor"] == "currentColor"


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_draws_a_chart_where_text_may_not_become_code(tmp_path: Path):
    assert CHROMIUM is not None
    page = tmp_path / "page.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<div id="chart"></div><p id="said"></p><script>{bundle()}</script>'
        f'<script type="application/json" id="spec">{embedded(chart())}</script>'
        "<script>const said = document.getElementById('said');"
        "try { new Function('return 1')(); said.textContent = 'evaluated'; } catch { said.textContent = 'refused'; }"
        f"{FUNCTION}(document.getElementById('chart'), document.getElementById('spec').textContent)"
        ".then(() => { said.textContent += ' drawn'; }, error => { said.textContent += ' ' + error; });</script>",
        encoding="utf-8",
    )
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    run = subprocess.run(
        [*command, "--virtual-time-budget=10000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert re.search(r'<p id="said">refused drawn</p>', run.stdout), run.stdout[-500:]
    assert run.stdout.count('aria-roledescription="point"') == 8
