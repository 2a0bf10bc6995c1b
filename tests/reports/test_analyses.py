"""The analyses of a report, on records whose tables are known by hand."""

import re
from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import reports
from reports.section import Source
from reports.sections import analyses as _analyses
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store

CURVE = {"title": "Size & rank", "x": "rank", "y": "size", "mark": "line", "split": "stage"}
SHARES = {"title": "Sizes", "x": "size", "y": "share of rows", "mark": "line", "split": "stage"}
BARS = {"title": "Sizes", "x": "stage", "y": "size", "mark": "bar", "split": None}


def table(sizes=(3.0, 2.0, 1.0)):
    n = len(sizes)
    return pd.DataFrame({"stage": ["<a>"] * n + ["b"] * n, "rank": [*range(n)] * 2, "size": [*sizes] * 2})


def record(model="net", *, name="sizes", plot=CURVE, other=None, params=None, rows=None, summary=None):
    described = {"kind": "analysis", "name": name, "params": params or {}, "version": 1}
    spec = {"model": model, "perturbation": described, "other": other}
    labels = {
        "model": model,
        "defense": "none",
        "access": "none",
        "data": "digits",
        "family": "analysis",
        "perturbation": name,
        "params": params or {},
        "norm": "none",
        "seed": 0,
        **({} if plot is None else {"plot": plot}),
        **({} if other is None else {"other": other}),
    }
    numbers = [Measurement("mean_size", 2.0, 1.5, 2.5, 3)] if summary is None else summary
    rows = table() if rows is None else rows
    return Record(content_key(spec), spec, labels, tuple(numbers), (), {"seconds": 1.0}, rows)


@pytest.fixture
def found(tmp_path):
    """The analyses of a run folder with these records."""

    def read(*records):
        store = Store(tmp_path / "run")
        for one in records:
            store.write(one)
        return _analyses.looks(load([store.folder]).analyses)

    return read


def tables(*looks):
    return [table for look in looks for table in _analyses.tables(look)]


def points(look):
    return _analyses._points(look, look.plot)


def test_a_table_has_a_line_for_each_model_and_a_column_for_each_number(found):
    numbers = [Measurement("mean_size", 4.0, None, None, 3), Measurement("accuracy", 0.5, 0.25, 0.75, 8)]
    (section,) = tables(*found(record(), record("other", summary=numbers)))
    grid = section.body
    assert section.title == "Sizes" and grid.heads == ("model", "mean size", "accuracy") and grid.left == 1
    assert grid.rows == (("net", "2 (1.5–2.5)", "–"), ("other", "4", "50.0 (25.0–75.0)"))
    assert section.note == "On digits; 95 % intervals in brackets, where there is one. Accuracies in percent."


def test_other_sets_and_settings_stand_apart(found):
    looks = found(
        record(other="noise"),
        record(other="night"),
        record(name="pairs", params={"n": 1}),
        record(name="pairs", params={"n": 2}),
    )
    assert [look.name for look in looks] == ["pairs (n=1)", "pairs (n=2)", "sizes"]
    grid = tables(*looks)[-1].body
    assert grid.heads[:2] == ("model", "other images") and grid.left == 2
    assert [row[:2] for row in grid.rows] == [("net", "night"), ("net", "noise")]
    assert len({look.figure for look in looks}) == 3


def test_many_numbers_make_several_tables_and_the_drawing_is_below_the_last(found, tmp_path):
    numbers = [Measurement(f"auroc_{i}", i / 20, None, None, 3) for i in range(15)]
    assert found(record(summary=numbers))
    *numbers, drawn = _analyses.sections(Source(load([tmp_path / "run"])))
    grids = [section.body for section in numbers]
    assert [section.title for section in numbers] == [f"Sizes ({i} of 3)" for i in (1, 2, 3)]
    assert [len(grid.heads) for grid in grids] == [6, 6, 6]
    assert [head for grid in grids for head in grid.heads[1:]] == [f"AUROC {i}" for i in range(15)]
    assert drawn.title == "" and drawn.body.name == "analysis_sizes"


def test_a_zero_that_rounding_left_is_a_zero_and_an_exact_one_keeps_its_interval(found):
    numbers = [Measurement("alpha", 5e-17, -1e-16, 2e-16, 9), Measurement("rate", 0.0, 0.0, 0.1, 9)]
    numbers.append(Measurement("beta", -2.0, -3.0, -1.0, 9))
    (section,) = tables(*found(record(summary=numbers)))
    assert section.body.rows == (("net", "0", "0 (0–0.1)", "-2 (-3 to -1)"),)


def test_seeds_are_told_only_where_nothing_else_differs(found):
    first = replace(record(), labels={**record().labels, "train_seed": 4})
    other = record("other")
    (look,) = found(first, other)
    assert look.heads() == ("model",) and set(look.names().values()) == {"net", "other"}
    twin = record(rows=table((9.0, 9.0, 9.0)), other="noise")
    twin = replace(twin, labels={**record().labels, "train_seed": 5})
    (look,) = found(first, other, twin)
    assert look.heads() == ("model", "seeds")
    assert set(look.lines()) == {("net", "0 / 4"), ("net", "0 / 5"), ("other", "0")}


def test_a_curve_is_the_mean_of_rows_with_one_x(found):
    rows = pd.concat([table((3.0, 2.0, 1.0)), table((5.0, 2.0, 0.0))])
    (look,) = found(record(rows=rows))
    drawn = points(look)
    assert list(drawn["split"].unique()) == ["<a>", "b"]
    assert list(drawn[drawn["split"] == "b"]["y"]) == [4, 2, 0.5]


def test_shares_add_up_to_one_in_common_steps_and_leave_out_what_is_not_finite(found):
    rows = pd.DataFrame({"stage": ["a"] * 100 + ["b"] * 50, "size": [*np.linspace(0, 1, 100), *[0.5] * 50]})
    rows.loc[0, "size"] = -np.inf
    (look,) = found(record(rows=rows, plot=SHARES))
    drawn = points(look)
    assert drawn.groupby("split")["y"].sum().tolist() == pytest.approx([1, 1])
    assert (drawn[drawn["split"] == "b"]["y"] > 0).sum() == 1
    steps = [drawn[drawn["split"] == split]["x"].tolist() for split in "ab"]
    assert steps[0] == steps[1] and len(steps[0]) == 8


def test_long_curves_are_thinned_and_keep_their_ends(found):
    rows = pd.DataFrame({"stage": "a", "rank": range(5000), "size": np.arange(5000.0)})
    (look,) = found(record(rows=rows))
    drawn = points(look)
    assert len(drawn) == 200 and drawn["x"].iloc[0] == 0 and drawn["x"].iloc[-1] == 4999


@pytest.mark.parametrize("plot", [CURVE, SHARES, BARS], ids=["curve", "shares", "bars"])
def test_each_kind_of_drawing_says_what_it_shows(found, plot):
    from reports.charts.drawing import svg

    (look,) = found(record(plot=plot), record("other", plot=plot, rows=table((6.0, 4.0, 2.0))))
    chart = _analyses.drawing(look)
    text = svg(chart.drawing)
    assert (chart.name, chart.caption) == ("analysis_sizes", plot["title"]) and text.startswith("<svg")
    for word in ("other", "net", plot["x"], "&lt;a&gt;"):
        assert word in text
    # every mark has its number for the pointer
    assert re.search(r"<title>(net|other); [^<]*: [\d.e-]+</title>", text)


def test_without_a_plot_or_its_columns_nothing_is_drawn(found):
    looks = found(record(plot=None), record(name="gone", plot={**CURVE, "x": "age"}))
    assert [_analyses.drawing(look) for look in looks] == [None, None]


def test_a_report_of_analyses_alone_is_written_in_every_format_and_drops_old_drawings(tmp_path):
    store = Store(tmp_path / "run")
    store.write(record())
    out = tmp_path / "report"
    (out / "figures").mkdir(parents=True)
    old = out / "figures" / "analysis_gone.svg"
    old.write_text("<svg/>")
    written = reports.write([store.folder], out)
    assert not old.exists() and (out / "figures" / "analysis_sizes.svg").exists()
    page = (out / "index.html").read_text()
    assert "Size &amp; rank" in page and "2 (1.5–2.5)" in page and "<title>net; b; 2: 1</title>" in page
    assert page.index("<h2>Sizes</h2>") < page.index("<figcaption>Size &amp; rank")
    assert (
        "## Sizes" in (out / "table.md").read_text()
        and "mean size" in (out / "tables" / "sizes.tex").read_text()
    )
    console = Console(width=100, file=StringIO())
    console.print(written.analyses())
    assert re.search(r"mean size\s+2 \(1\.5–2\.5\)", console.file.getvalue())


def test_a_report_without_analyses_says_nothing_of_them(found, tmp_path):
    assert found(record())
    loaded = load([tmp_path / "run"])
    assert list(_analyses.sections(Source(loaded)))
    assert not list(_analyses.sections(Source(replace(loaded, analyses=()))))
