"""The page can be read by everybody: contrast, and tables that say what their cells belong to."""

import re
from importlib import resources

import pytest

CSS = (resources.files("reports") / "templates" / "index.html.j2").read_text()
BODIES = (resources.files("reports") / "templates" / "bodies.html.j2").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part))
    for part in (CSS[: CSS.index("@media")], CSS[CSS.index("@media") : CSS.index("body {")])
)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", ["ground", "band"])
@pytest.mark.parametrize("ink", ["ink", "soft", "pass", "warn", "fail"])
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_of_text_has_a_contrast_of_four_and_a_half(scheme, ink, ground):
    light, dark = sorted((luminance(scheme[ink]), luminance(scheme[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_no_text_is_made_fainter_than_its_colour():
    assert "opacity" not in CSS


def test_every_head_says_what_it_is_the_head_of():
    heads = re.findall(r"<th\b[^>]*", BODIES)
    assert heads and all("scope=" in head for head in heads)
    assert BODIES.count("{{ caption(") == BODIES.count("<table")


def test_long_names_of_a_legend_stand_in_fewer_columns():
    from reports.charts.look import PAGE, colour

    def columns(names):
        return colour("model", names, PAGE).to_dict()["legend"]["columns"]

    assert columns(["a", "b", "c", "d", "e"]) == 4
    assert columns([f"a model with a rather long name, number {i}" for i in range(5)]) == 2
    assert columns(["x" * 200, "y"]) == 1
