"""A section is one function and one line of a list; formats spell out kinds of body, whichever section has them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import altair
import pandas as pd
import pytest

import reports
from reports import bodies, page_bodies
from reports.charts.drawing import svg
from reports.formats.html import page
from reports.formats.markdown import markdown
from reports.formats.tex import tex_files
from reports.section import Section, Source
from reports.sections import contents
from reports.tables import CLEAN, Comparison, Line, Number
from robust_eval.errors import DataError
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.record import Record
from robust_eval.results.store import Store

RED = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
LINE = Line("net", "none", "none", "shapes", 0, None)
ADVICE = bodies.Advice("monotone_in_eps", "warn", 1, "0.1", "mend it")
PICTURE = bodies.Picture(RED, "fog s3", 1, 1)
POINTS = altair.Chart(pd.DataFrame({"x": [1, 2]})).mark_point().encode(x="x:Q")
NUMBER = Number("accuracy", 0.625, 0.5, 0.75, 8, "ok", "k")
ASKED = page_bodies.Asked("finite", "warn", "Warn of NaN.", "share: 3 %", "mend it")
PROFILE = page_bodies.Profile(
    *("net", "mixing", "shapes", "warn", "doubtful"),
    (ASKED,),
    (),
    "quick",
    (),
    (("arch", "fact of a profile"),),
)
BODIES = {
    "a sentence of an answer": bodies.Answer(
        ("what was asked",),
        (),
        (CLEAN,),
        (bodies.AnswerLine(LINE, "", (bodies.AnswerCell(NUMBER, "best"),), "relied", "no check objects"),),
        ("a sentence of an answer",),
        16,
    ),
    "words of a text": bodies.Paragraphs(("words of a text",)),
    "words of a legend": bodies.Legend(("words of a legend",)),
    "62.5": bodies.Numbers(
        Comparison(
            "accuracy",
            (LINE,),
            (CLEAN,),
            {(LINE, CLEAN): NUMBER},
        ),
        "some",
    ),
    "cell of a grid": bodies.Grid(("head",), (("cell of a grid",),), 1),
    "cell of a listing": bodies.Listing(("head",), (("cell of a listing",),), 1),
    "steps=7": bodies.Settings(
        "attack", "threat", (bodies.Setting("pgd", "linf 8/255", "steps=7", "7 + 7"),)
    ),
    "doubtful indeed": bodies.Trusts(
        (bodies.Trust("net", "none", "shapes", "warn", "doubtful indeed", (ADVICE,), (), False, "quick"),),
        (ADVICE,),
    ),
    "fog s3": bodies.Sheets((bodies.Sheet("shapes", (3,), (("fog", (PICTURE,)),), ()),)),
    "an exhibited image": bodies.Gallery(
        (
            bodies.Album(
                "shapes",
                "net",
                "none",
                ("pgd",),
                1,
                (bodies.Exhibit("an exhibited image", PICTURE, "cat (90 %)", (None,)),),
                (),
            ),
        )
    ),
    "caption of a chart": bodies.Chart("drawn", "caption of a chart", POINTS),
    "47.5": bodies.Whole(
        Comparison("accuracy", (LINE,), (CLEAN,), {(LINE, CLEAN): NUMBER._replace(value=0.475)})
    ),
    "fact of a profile": bodies.Profiles((PROFILE,)),
    "a command": bodies.Commands((("to do it:", "a command"),)),
    "value of a fact": bodies.Facts((("name", "value of a fact"),)),
    "key of a record": bodies.Records(
        (bodies.Recorded("net", "none", "none", "pgd", 1.0, 2, 3, "cpu", (), "run", "key of a record"),)
    ),
}
"""A body of each kind, by words that it holds."""
TABLES = {bodies.Numbers, bodies.Grid, bodies.Trusts, bodies.Settings}
PAPER = TABLES | {bodies.Answer, bodies.Facts, bodies.Chart}
PAGE_ONLY = {
    *(bodies.Sheets, bodies.Chart, bodies.Facts, bodies.Records),
    *(bodies.Whole, bodies.Profiles, bodies.Commands),
}


def measured(folder, **labels):
    """A run folder with one record of a model on clean images."""
    rows = pd.DataFrame({"index": range(8), "score": [1.0] * 5 + [0.0] * 3})
    rows["attacked"] = False
    spec = {"model": "net", "data": {"fingerprint": "f", "n": 8}}
    known = {
        **dict.fromkeys(("model", "arch", "regularizer"), "net"),
        **dict.fromkeys(("defense", "access", "perturbation", "norm"), "none"),
        "data": "shapes",
        "family": "clean",
        "seed": 0,
        "model_key": "net",
        **labels,
    }
    number = Measurement("accuracy", 0.625, 0.3, 0.9, 8)
    Store(folder).write(Record(content_key(spec), spec, known, (number,), (), {"seconds": 1.0}, rows))
    return folder


def test_a_new_section_is_one_function_and_one_line(tmp_path, monkeypatch):
    def trial(source):
        rows = tuple((str(entry.labels["model"]), "17") for entry in source.entries)
        yield Section("A trial", bodies.Grid(("model", "trials"), rows, 1), "Said of every model.")

    run = measured(tmp_path / "run")
    before = reports.write([run], tmp_path / "out")
    texts = [(before.out / name).read_text() for name in ("table.md", "report.tex", "index.html")]
    assert not any("A trial" in text for text in texts)
    at = contents.SECTIONS.index(contents.models.sections)
    monkeypatch.setattr(contents, "SECTIONS", (*contents.SECTIONS[:at], trial, *contents.SECTIONS[at:]))
    reports.write([run], tmp_path / "out")
    names = ("table.md", "tables/a-trial.tex", "index.html")
    text, paper, html = ((before.out / name).read_text() for name in names)
    table = "| model | trials |\n| --- | ---: |\n| net | 17 |"
    assert f"## A trial\n\nSaid of every model.\n\n{table}\n\n## Models" in text
    assert r"\caption{A trial. Said of every model.}" in paper and r"net & 17 \\" in paper
    assert html.index("<h2>A trial</h2>") < html.index('<td class="number">17</td>')
    assert html.index('<td class="number">17</td>') < html.index("<h2>Models</h2>")


def test_there_is_an_example_of_every_kind_of_body():
    assert {type(body) for body in BODIES.values()} == set(get_args(bodies.Body))


@pytest.mark.parametrize("words", BODIES)
def test_every_format_handles_every_kind_of_body(words):
    body = BODIES[words]
    section = Section("Heading & more", body, "A note.", caption="A caption.")
    drawn = {body.name: svg(body.drawing)} if isinstance(body, bodies.Chart) else {}
    html, text = page([section], (), drawn), markdown([section])
    paper = "".join(tex_files([section], None).values())
    assert words in html and "A note." in html
    assert ("<h2>Heading &amp; more</h2>" in html) == (type(body) is not bodies.Legend)
    told = type(body) not in PAGE_ONLY
    assert ("## Heading &amp; more" in text) == told
    assert (words in text) == (told and not isinstance(body, bodies.Gallery))  # which is a picture there
    assert (words in paper) == (type(body) in PAPER)
    assert ("A caption." in paper) == (type(body) in TABLES)


@pytest.mark.parametrize("words", BODIES)
def test_details_are_folded_on_the_page_whatever_they_are(words):
    body = BODIES[words]
    if isinstance(body, bodies.Legend):
        pytest.skip("a legend has no heading of its own")
    drawn = {body.name: svg(body.drawing)} if isinstance(body, bodies.Chart) else {}
    html = page([Section("Heading", body, folded=True)], (), drawn)
    assert re.search(
        rf'<details class="details"><summary><h2>Heading</h2></summary>.*{re.escape(words)}.*</details>\s*</section>',
        html,
        re.S,
    )


def test_marks_that_a_note_speaks_of_look_like_those_beside_numbers():
    note = "✓ passed, ? warns, ! fails; really? <b>"
    html = page([Section("Heading", BODIES["words of a text"], note)], (), {})
    for verdict, mark in (("passed", "✓"), ("warn", "?"), ("fail", "!")):
        assert f'<span class="mark {verdict}">{mark}</span> ' in html
    assert "really? &lt;b&gt;" in html


def test_every_format_has_the_sections_in_one_order(tmp_path):
    out = reports.write([measured(tmp_path / "run")], tmp_path / "out").out
    titles = [section.title for section in contents.contents(Source(reports.load([tmp_path / "run"])))]
    for name, pattern in (("table.md", r"^## (.*)$"), ("index.html", r"<h2>(.*?)</h2>")):
        found = re.findall(pattern, (out / name).read_text(), re.M)
        assert len(found) >= 4 and found == [title for title in titles if title in found]


def test_a_baseline_is_known_by_the_name_in_its_record_or_in_the_tables(tmp_path):
    loaded = reports.load([measured(tmp_path / "run", model="resnet")])
    shown = replace(loaded.entries[0], labels={**loaded.entries[0].labels, "model": "resnet (erm)"})
    told = replace(loaded, entries=(shown,))
    assert Source(told).reference is None
    assert {Source(told, name).reference for name in ("resnet", "resnet (erm)")} == {"resnet (erm)"}
    with pytest.raises(DataError, match=r"baseline: expected resnet \(erm\), got 'vgg'"):
        contents.contents(Source(told, "vgg"))
