"""Series are told apart with every kind of sight and in grey; a drawing for paper is as wide as its column."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from reports.bodies import Chart
from reports.charts.drawing import files, inline, pdf, svg
from reports.charts.foremost import foremost, only_best, shown
from reports.charts.look import COLOURS, COLUMN, DASHES, LINES, POINTS, REST, SHAPES, WIDE, dash, shape
from reports.charts.training import training

LIGHT, DARK = "#ffffff", "#16181c"
SIGHTS = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
"""What is seen of linear red, green and blue (Machado et al. 2009, severity 1)."""
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = [np.cbrt(v) if v > (6 / 29) ** 3 else v * (29 / 6) ** 2 / 3 + 4 / 29 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(colour: str) -> float:
    return float(XYZ[1] @ linear(colour))


def curves(names: list[str]) -> pd.DataFrame:
    rows = [
        {"series": name, "set": "test", "pass": i, "accuracy": 50.0 + i + 5 * k}
        for k, name in enumerate(names)
        for i in range(3)
    ]
    frame = pd.DataFrame(rows)
    frame = frame.assign(
        low=frame["accuracy"] - 1, high=frame["accuracy"] + 1, told=frame["series"] + "; told"
    )
    return foremost(frame, LINES)


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_colours_lie_twenty_apart_for_every_sight(sight):
    seen = [lab(SIGHTS[sight] @ linear(colour)) for colour in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 20


@pytest.mark.parametrize("ground", [LIGHT, DARK])
@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_has_a_contrast_of_three_to_both_grounds(colour, ground):
    light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_every_series_that_is_named_differs_by_its_mark_or_its_dash():
    assert len(set(SHAPES)) == POINTS >= LINES
    names = [f"m{i}" for i in range(LINES)]
    shapes, dashes = (made("shown", names).to_dict()["scale"]["range"] for made in (shape, dash))
    assert len({(mark, tuple(stroke)) for mark, stroke in zip(shapes, dashes, strict=True)}) == LINES
    assert len(set(DASHES)) == len(DASHES) and len(set(shapes)) == LINES


def test_the_best_are_named_and_the_rest_is_one_grey_name():
    frame = curves([f"m{i}" for i in range(LINES + 3)])
    names, rest = shown(frame)
    assert rest == "3 others" == names[-1] and names[:-1] == [f"m{i}" for i in range(3, LINES + 3)]
    unit = training(frame).to_dict()["spec"]["layer"][0]
    paint = unit["encoding"]["color"]["scale"]["range"]
    assert paint[-1] == REST and REST not in paint[:-1]
    assert set(only_best(frame, "series", 2)["series"]) == {f"m{LINES + 1}", f"m{LINES + 2}"}


def test_few_series_are_all_named():
    assert shown(curves(["a", "b"])) == (["a", "b"], None)


@pytest.mark.parametrize("size", [COLUMN, WIDE], ids=["one column", "two columns"])
def test_a_drawing_for_paper_is_as_wide_as_its_column_in_letters_of_eight_points(size):
    drawn = svg(training(curves(["net", "other"]), size), size)
    assert re.match(
        rf'<svg [^>]*width="{size.width / 72:g}in" height="[\d.]+in" viewBox="[-\d.]+ 0 {size.width} ', drawn
    )
    assert set(re.findall(r'font-size="(\d+)px"', drawn)) == {"8"}
    assert "Liberation Sans" in drawn
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ", pdf(drawn))
    assert box is not None and float(box[1]) == size.width


def test_a_drawing_with_long_names_is_made_to_fit():
    size = COLUMN
    drawn = svg(training(curves([f"{'x' * 290} {i}" for i in range(3)]), size), size)
    root = re.search(r'width="3.25in" height="[\d.]+in" viewBox="[-\d.]+ 0 ([\d.]+) ', drawn)
    assert root is not None and size.width <= float(root[1]) <= 1.2 * size.width


def test_the_files_have_the_same_bytes_each_time_and_one_embedded_font():
    drawn = training(curves(["net", "other"]), COLUMN)
    chart = Chart("training", "caption", training(curves(["net", "other"])), drawn)
    one, two = files(chart), files(chart)
    assert one == two and set(one) == {"training.svg", "training.pdf"}
    document = one["training.pdf"]
    assert isinstance(document, bytes) and document.startswith(b"%PDF") and b"/FontFile2" in document
    assert {name.partition(b"+")[2] for name in re.findall(rb"/BaseFont\s*/(\S+)", document)} == {
        b"LiberationSans"
    }
    assert b"Date" not in document


def test_every_object_of_a_pdf_lies_where_its_table_says():
    document = files(Chart("t", "c", training(curves(["net"]))))["t.pdf"]
    assert isinstance(document, bytes)
    start = int(document.rsplit(b"startxref", 1)[1].split()[0])
    entries = document[start:].split(b"trailer")[0].splitlines()[3:]
    assert entries
    for number, entry in enumerate(entries, start=1):
        assert document[int(entry[:10]) :].startswith(b"%d 0 obj" % number)
    named = {int(number) for number in re.findall(rb"\b(\d+) 0 R\b", document[:start])}
    assert named <= set(range(1, len(entries) + 1))


def test_a_name_is_text_in_a_drawing():
    drawn = inline(svg(training(curves(["<script>alert(1)</script>", "b"]))), "training")
    assert "<script" not in drawn and "&lt;script&gt;" in drawn
