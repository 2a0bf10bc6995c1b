"""The page can be read by everybody: contrast, headings, tables with heads for their cells; nothing foreign runs."""

import base64
import hashlib
import html
import itertools
import re
from importlib import resources

import pytest

from reports import bodies
from reports.formats.html import page
from reports.formats.outline import outline
from reports.section import Section
from reports.tables import CLEAN, Line, Number

TEMPLATES = resources.files("reports") / "templates"
CSS, SCRIPT, BODIES = ((TEMPLATES / name).read_text() for name in ("page.css", "page.js", "bodies.html.j2"))
_SCHEMES = re.findall(r"--(\w+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS)
LIGHT, DARK = ({found[0]: found[side] for found in _SCHEMES} for side in (1, 2))


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", ["ground", "band"])
@pytest.mark.parametrize("ink", ["ink", "soft", "link", "pass", "warn", "fail"])
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_of_text_has_a_contrast_of_four_and_a_half(scheme, ink, ground):
    light, dark = sorted((luminance(scheme[ink]), luminance(scheme[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_no_text_is_made_fainter_than_its_colour():
    assert "opacity" not in CSS


def test_the_script_is_short_and_takes_nothing_for_markup():
    assert len(SCRIPT.splitlines()) < 400
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "fetch(",
    ):
        assert way not in SCRIPT


def _page(**given):
    text = bodies.Paragraphs(("words",))
    return page([Section("Heading", text)], (), {}, **given)


def _policy(text):
    return html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1])


def _hash(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_names_the_scripts_that_are_there_and_no_others():
    (own,) = re.findall(r"<script>(.*?)</script>", _page(), re.S)
    assert f"script-src {_hash(own)}" in _policy(_page())
    assert _policy(_page()).count("sha256-") == 1
    scripts = _policy(_page())[_policy(_page()).index("script-src") :]
    assert "unsafe" not in scripts and _policy(_page()).startswith("default-src 'none';")


def test_a_bundle_is_named_as_it_will_run_and_cannot_end_its_element():
    told = page(
        [Section("Heading", bodies.Chart("drawn", "caption", None))],
        (),
        {"drawn": "<svg></svg>"},
        {"drawn": '{"a":"\\u003c"}'},
        'const end = "</script>", note = "<!--";',
    )
    (bundle,) = re.findall(r'<script type="text/plain" id="vega">(.*?)</script>', told, re.S)
    assert bundle == 'const end = "<\\/script>", note = "<\\!--";' and _hash(bundle) in _policy(told)
    assert '<script type="application/json" id="spec-drawn">{"a":"\\u003c"}</script>' in told


def test_a_chart_of_very_many_marks_stays_a_drawing():
    chart = Section("Heading", bodies.Chart("drawn", "caption", None))
    told = page([chart], (), {"drawn": "<svg></svg>"}, {"drawn": "[" + "1," * 100_000 + "1]"}, "bundle")
    assert "spec-drawn" not in told and 'id="vega"' not in told and "<svg></svg>" in told


def test_nothing_is_fetched():
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', _page()) and "url(" not in CSS


def test_the_places_that_links_lead_to_are_apart_whatever_the_titles():
    titles = ["Main", "Fog & snow", "fog snow", "<b>", "雪", "x" * 300, "Answer"]
    parts = outline([Section(title, bodies.Paragraphs(())) for title in titles])
    places = [part.place for part in parts]
    assert len({*places, "main", "answer"}) == len(titles) + 2
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,51}", place) for place in places)


def test_what_has_no_title_and_a_legend_stand_with_what_is_before_them():
    words = bodies.Paragraphs(("words",))
    parts = outline(
        [
            Section("", words),
            Section("One", words),
            Section("", words),
            Section("How", bodies.Legend(("so",))),
        ]
    )
    assert [(part.title, len(part.sections)) for part in parts] == [("", 1), ("One", 3)]


def test_several_of_a_group_stand_within_one_heading_and_a_single_one_alone():
    def folded(title, group):
        return Section(title, bodies.Paragraphs(()), folded=True, group=group)

    parts = outline([folded("a", "Letters"), folded("b", "Letters"), folded("1", "Numbers"), folded("z", "")])
    assert [(part.title, [inner.title for inner in part.parts]) for part in parts] == [
        ("Letters", ["a", "b"]),
        ("1", []),
        ("z", []),
    ]


def test_headings_are_in_order_and_links_of_the_contents_lead_somewhere():
    words = bodies.Paragraphs(("words",))
    told = page(
        [Section("", words), *(Section(t, words, group="G") for t in "ab"), Section("c", words)], (), {}
    )
    levels = [int(level) for level in re.findall(r"<h([1-6])", told)]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
    places = re.findall(r'href="#([^"]+)"', told)
    assert len(places) >= 4 and all(f'id="{place}"' in told for place in places)


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


def test_the_answer_is_said_before_its_table_and_what_the_numbers_are_below_it():
    line = Line("net_of_a_long_name", "none", "none", "shapes", 0, None)
    cell = bodies.AnswerCell(Number("accuracy", 0.625, 0.5, 0.75, 8, "ok", "k"), "")
    answer = bodies.Answer(
        ("asked",),
        (),
        (CLEAN,),
        (bodies.AnswerLine(line, "", (cell,), "relied", "words"),),
        ("a sentence",),
        16,
    )
    text = page([Section("", answer)], (), {})
    asked, sentence, table = (
        text.index(part) for part in ("asked</p>", "a sentence", '<table class="answer')
    )
    assert (
        asked < sentence < table < text.index('<p class="soft legend">accuracy in %, n = 8, 95 % intervals')
    )
    assert "<caption>The answer: accuracy in %, n = 8" in text  # read out, too
    assert "net_<wbr>of_<wbr>a_<wbr>long_<wbr>name" in text
