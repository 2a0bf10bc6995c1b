"""Estimates are marked wherever their numbers stand, and taken for all images nowhere."""

import json
import re
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from reports.bodies import Answer, Chart
from reports.comparison import comparison
from reports.diff import compared
from reports.evidence.facts import facts_of
from reports.exports.card import card_json, card_of
from reports.exports.huggingface import huggingface
from reports.exports.mlflow import tracked
from reports.exports.robustbench import robustbench
from reports.exports.runs import Folders
from reports.formats.answer_json import answer_json
from reports.formats.answer_table import answer_table
from reports.formats.html import page
from reports.formats.markdown import markdown
from reports.formats.spreadsheet import csv
from reports.formats.tex import tex_files
from reports.gate import Run, judge, parse_rules
from reports.power import of_runs
from reports.scores import Scored
from reports.section import Source
from reports.sections.agreement import agreements
from reports.sections.contents import contents
from reports.sections.convergence import after_each_step
from reports.sections.differences import differences
from reports.sections.estimates import estimated_sentence, sections
from reports.sections.radius import against_radius
from reports.standing import standings
from robust_eval import attack
from robust_eval.attacks.peers.resolve import counterparts
from robust_eval.identity import content_key
from robust_eval.registry import describe
from robust_eval.results.estimates import estimate_of
from robust_eval.results.load import load

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="session")
def guessed(made):
    """A record as an estimate from every second of its first 180 images: the last 20 are wrong without an attack."""

    def estimate(record, why=None):
        rows = record.rows
        sure = rows["index"] >= len(rows) - 20
        score, stratum = rows["score"].where(~sure, 0.0), np.where(sure, -1, rows["index"] // 100)
        size = np.array([100, 80, 20])[stratum]
        rows = rows.assign(score=score, stratum=stratum, stratum_size=size, attacked=~sure)
        rows = rows[sure | (rows["index"] % 2 == 0)].reset_index(drop=True)
        if why is not None:
            rows = rows.assign(stratum=rows["stratum"].clip(upper=0))
            rows["stratum_size"] = np.where(rows["stratum"] < 0, 20, len(record.rows) - 20)
        spec = {**record.spec, "estimate": {"half_width": 0.05, "version": 1}}
        told = {} if why is None else {"estimate": {"plain_because": why}}
        return replace(
            record,
            key=content_key(spec),
            spec=spec,
            rows=rows,
            summary=(estimate_of(rows, eps=record.labels["eps"]),),
            provenance={**record.provenance, **told},
        )

    return estimate


@pytest.fixture(scope="session")
def run(made, guessed, tmp_path_factory):
    """Two models, one of which was attacked twice on some of the images and once on all."""
    records = [made.clean(model=name, identity=name, right=180) for name in ("whole", HOSTILE)]
    records += [made.record("whole", right=150, identity="whole")]
    records += [guessed(made.record(HOSTILE, right=60, identity=HOSTILE))]
    records += [guessed(made.record(HOSTILE, "bim", right=40, identity=HOSTILE), why="=cmd()\n<b>")]
    return made.save(tmp_path_factory.mktemp("estimated") / "run", *records)


@pytest.fixture(scope="session")
def source(run):
    return Source(load([run]), None, (run,))


@pytest.fixture(scope="session")
def texts(source, run):
    """Each format, without its drawings."""
    parts = [part for part in contents(source) if not isinstance(part.body, Chart)]
    told = next(part.body for part in parts if isinstance(part.body, Answer))
    console = Console(file=StringIO(), width=160)
    console.print(answer_table(told, width=160))
    return {
        "terminal": console.file.getvalue(),
        "table.md": markdown(parts),
        "index.html": page(parts, source.entries, {}, {}, ""),
        "attacks.tex": tex_files(parts, None)["tables/attacks.tex"],
        "results.csv": csv(source.results),
        "card.json": card_json(card_of(source, Folders((run,)))),
        "json": answer_json(told, runs=("run",), report=run),
    }


def table(source):
    return comparison(source.results)


def place(table, model, name):
    line = next(line for line in table.lines if line.model.startswith(model))
    return line, next(column for column in table.columns if column.perturbation == name)


def test_the_long_table_says_how_many_images_an_estimate_is_for(source):
    found = source.results[source.results["metric"] == "accuracy"]
    guessed = found[found["estimated_for"].notna()]
    assert set(guessed["perturbation"]) == {"pgd", "bim", "worst_case"} and set(guessed["n"]) == {90}
    assert (guessed["estimated_for"] == 200).all() and (guessed["model"] == HOSTILE).all()
    worst = guessed[guessed["perturbation"] == "worst_case"].iloc[0]
    assert worst["value"] == pytest.approx(0.2) and worst["ci_low"] < 0.2 < worst["ci_high"]


MARKS = {
    **dict.fromkeys(("terminal", "table.md", "index.html", "attacks.tex"), "(est. 90 of 200)"),
    **dict.fromkeys(("card.json", "json"), '"estimated_for": 200'),
    "results.csv": ",200\n",
}


@pytest.mark.parametrize("name", MARKS)
def test_every_format_marks_an_estimate(texts, name):
    assert MARKS[name] in texts[name]


def test_what_comes_from_records_is_escaped(texts):
    assert HOSTILE not in texts["index.html"] and "<b>" not in texts["index.html"]
    assert HOSTILE not in texts["table.md"] and not re.search(r"^=cmd", texts["table.md"], re.M)


def test_the_first_screen_names_the_estimates(source):
    (sentence,) = estimated_sentence(source)
    assert "pgd linf 8/255 on" in sentence and "from 90 attacked of 200 images" in sentence
    assert "worst" not in sentence


def test_each_estimate_has_its_strata_and_both_intervals(source):
    summary, strata = sections(source)
    assert len(summary.body.rows) == 2 and {len(row) for row in summary.body.rows} == {9}
    how = {row[3] for row in summary.body.rows}
    assert "2 strata" in how and any(text.startswith("without strata: =cmd()") for text in how)
    assert not any("\n" in text for row in summary.body.rows for text in row)
    rows = [row for row in strata.body.rows if "pgd" in row[2]]
    assert [row[3:6] for row in rows] == [("wrong without", "20", "0"), ("1", "100", "50"), ("2", "80", "40")]


def test_an_estimate_has_no_scores_of_its_own_and_is_told_apart_by_intervals(source):
    found, scored = table(source), Scored(source.entries, ())
    high, low = place(found, "whole", "pgd"), place(found, HOSTILE, "pgd")
    assert scored.of(*low) is None and scored.of(*high) is not None
    assert standings(found, scored)[high] == "best"


def test_of_two_estimates_that_are_near_none_is_the_best(made, guessed, tmp_path):
    near = [guessed(made.record(name, right=right, identity=name)) for name, right in (("a", 60), ("b", 68))]
    found = Source(load([made.save(tmp_path, *near)]))
    marks = standings(found.table, Scored(found.entries, ()))
    assert set(marks.values()) == {"tied"}


def test_curves_and_differences_leave_estimates_out(source):
    assert not [name for name in against_radius(source.entries)["series"] if name.startswith("<")]
    assert not len(after_each_step([e for e in source.entries if e.labels["model"] == HOSTILE]))
    (found,) = differences(source.entries)
    assert found.columns == ("clean",)


def test_a_gate_judges_the_value_and_interval_but_no_drop_and_no_class(made, run, tmp_path):
    rules = ["pgd@8/255 >= 0.2", "pgd@8/255 >= 0.5", "max-drop pgd@8/255 1%"]
    rules += [{"min": "pgd@8/255 >= 0.1", "class": "*"}]
    before = made.record(HOSTILE, right=60, identity="b"), made.record("whole", right=150, identity="c")
    loaded, baseline = Run(run), Run(made.save(tmp_path, *before))
    gate = judge(loaded, parse_rules(rules), baseline=baseline, confidence=0.95)
    least, more, drop, of_class = (
        next(each for each in ruled.judged if each.who.startswith("<")) for ruled in gate.ruled
    )
    assert [each.outcome for each in (least, more, drop, of_class)] == ["pass", "fail", "unknown", "unknown"]
    assert "a class is judged image by image" in of_class.told[0]
    assert least.value == pytest.approx(0.3) and "estimated from 90 attacked of 200 images" in least.told
    assert "a drop is judged image by image; measure without --estimate" in drop.told[0]
    tight = judge(loaded, parse_rules(["pgd@8/255 >= 0.29"]), confidence=0.95).ruled[0].judged
    assert {each.outcome for each in tight if each.who.startswith("<")} == {"unknown"}


def test_a_diff_compares_no_estimate_but_with_itself(made, guessed, run, tmp_path):
    whole = made.save(tmp_path / "b", made.record(HOSTILE, right=60, identity="other"))
    found = compared(Run(run), Run(whole))
    assert not [change for change in found.changes if change.what.startswith("pgd")]
    assert any("estimate from some of the images" in item.why for item in found.unpaired)


def test_power_is_not_taken_from_estimates(run):
    told = [line.what for line in of_runs(Run(run), None, n=None, size=None, confidence=0.95)]
    assert told and not [what for what in told if "pgd" in what and what.startswith("<")]


def test_evidence_says_that_numbers_are_estimates(source):
    assert any("estimated from some of the images" in text for text in facts_of(source).unfinished)


def test_a_cross_check_counts_the_images_that_both_attacked(made, guessed, tmp_path):
    params = describe(attack("pgd", eps=made.LINF, steps=10)).params
    ((name, theirs),) = [pair for pair in counterparts("pgd", params) if pair[0] == "torchattacks:PGD"]
    ours, peer = guessed(made.record(right=60, params=params)), made.record(perturbation=name, params=theirs)
    (line,) = agreements(load([made.save(tmp_path, ours, peer)]).entries)
    assert (line.n, line.both, line.theirs) == (90, 40, 0)


def test_exports_mark_estimates(source, run):
    card = card_of(source, Folders((run,)))
    files, _ = huggingface(card)
    texts = [text for text in files.values() if "alert" in str(text)]
    assert texts and all("n = 90, estimated: attacked of 200 images" in str(text) for text in texts)
    tags = [one.tags for run_ in tracked(source, card) for one in (run_, *run_.children)]
    told = {tag: text for own in tags for tag, text in own.items() if tag.startswith("estimated.")}
    assert len(told) >= 2 and set(told.values()) == {"from 90 attacked of 200 images"}


def test_robustbench_is_not_handed_an_estimate(made, guessed, tmp_path):
    run = made.save(tmp_path, made.clean(), guessed(made.record(perturbation="auto_attack", right=60)))
    files, told = robustbench(Source(load([run]), None, (run,)), Folders((run,)))
    info = next(json.loads(text) for name, text in files.items() if name.startswith("model_info"))
    assert info["autoattack_acc"] is info["reported"] is None
    assert any("estimated from some of the images: measure without --estimate" in line for line in told)


def test_a_worst_case_of_estimates_without_a_sample_in_common_is_undefined_and_says_so(
    made, guessed, tmp_path
):
    one, other = guessed(made.record(right=60)), guessed(made.record(perturbation="bim", right=40))
    other = replace(other, rows=other.rows.assign(stratum=other.rows["stratum"].replace({0: 1, 1: 0})))
    found = Source(load([made.save(tmp_path, one, other)]))
    worst = found.results[found.results["perturbation"] == "worst_case"].iloc[0]
    assert np.isnan(worst["value"]) and "estimates_apart" in worst["params"]
    assert (
        "undefined where the estimates of its attacks have no sample in common"
        in list(estimated_sentence(found))[1]
    )
