"""What changed between two runs, on records whose answers are known by hand; hostile names come out escaped."""

import json
from io import StringIO

import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy.stats import binomtest

import robust_eval
from reports.diff import compared
from reports.diff.document import as_csv, as_html, as_json, as_markdown
from reports.diff.table import diff_table, diff_text
from reports.gate import Run
from robust_eval.data import open_source
from robust_eval.errors import RobustEvalError
from robust_eval.findings import Check
from robust_eval.results.planned import PLANNED
from robust_eval.results.thumbnail import thumbnail

HOSTILE = "=cmd()<script>alert(1)</script>|\\input{x}\x1b[31m\n&" + "n" * 300


@pytest.fixture
def found(made, tmp_path):
    """Compare the records of two runs."""

    def compare(before, after):
        return compared(*(Run(made.save(tmp_path / n, *own)) for n, own in (("old", before), ("new", after))))

    return compare


def answers(right, n=200):
    return [float(i in right) for i in range(n)]


def test_a_change_has_mcnemars_p_and_the_images_that_flipped_both_ways(made, found):
    before, after = set(range(100)), set(range(5, 80)) | {150, 151}
    old, new = (made.record(score=answers(own), identity=i) for i, own in (("a", before), ("b", after)))
    (change,) = found([old], [new]).changes
    assert [flip.index for flip in change.to_wrong] == [0, 1, 2, 3, 4, *range(80, 100)]
    assert [flip.index for flip in change.to_right] == [150, 151]
    assert change.difference.p == pytest.approx(binomtest(2, 27).pvalue)
    assert (change.before, change.after) == (0.5, 0.385) and change.changed
    assert change.difference.value == pytest.approx(-0.115)


def test_p_counts_among_all_numbers_by_holm_and_the_largest_change_stands_first(made, found):
    def run(*right, identity):
        return [made.corrupted(f"type{i}", right=k, identity=identity) for i, k in enumerate(right)]

    diff = found(run(100, 100, 100, 100, identity="a"), run(100, 90, 50, 94, identity="b"))
    by_name = {change.what: change for change in diff.changes if change.what != "corruptions"}
    assert by_name["type1@3"].difference.p == pytest.approx(3 * binomtest(0, 10).pvalue)
    assert [change.what for change in diff.changes] == [
        "type2@3",
        "corruptions",
        "type1@3",
        "type3@3",
        "type0@3",
    ]
    assert [change.changed for change in diff.changes] == [True, True, True, False, False]
    assert diff.sentence.startswith(
        "3 of 5 numbers changed beyond noise (3 fell): net: type2@3 fell by 25.0 points ("
    )


def test_without_a_change_the_sentence_says_so_with_the_largest_difference(made, found):
    diff = found([made.clean(right=180)], [made.clean(right=178, identity="b")])
    assert diff.sentence.startswith(
        "None of 1 number changed beyond noise: the largest difference is net: clean fell by"
    )
    even = found([made.clean(right=180)], [made.clean(right=180, identity="b")])
    assert even.sentence == "None of 1 number changed beyond noise, and none differs at all."


def test_flips_say_the_class_and_what_it_is_taken_for_by_name(made, found):
    names = ["cat", "dog"]
    old, new = made.clean(right=200, names=names), made.clean(right=150, identity="b", names=names)
    (change,) = found([old], [new]).changes
    assert change.to_wrong[0].text == "150 (cat → dog)" and change.to_wrong[1].text == "151 (dog → cat)"


def test_a_worst_case_flips_where_any_of_its_attacks_wins(made, found):
    def run(identity, fgsm):
        return [
            made.record("net", "pgd", score=answers(range(100)), identity=identity),
            made.record("net", "fgsm", score=answers(fgsm), identity=identity),
        ]

    diff = found(run("a", range(100)), run("b", range(40, 100)))
    by_name = {change.what: change for change in diff.changes}
    assert [flip.index for flip in by_name["worst_case@linf:8/255"].to_wrong] == list(range(40))
    assert by_name["worst_case@linf:8/255"].to_wrong[1].answer == "0"
    assert not by_name["pgd@linf:8/255"].to_wrong


def test_draws_flip_where_the_majority_does(made, found):
    old, new = made.clean(score=[0.75] * 200), made.clean(score=[0.75, 0.25] * 100, identity="b")
    (change,) = found([old], [new]).changes
    assert [flip.index for flip in change.to_wrong] == list(range(1, 200, 2))


def test_what_one_run_has_alone_and_what_is_not_comparable_is_told_with_the_reason(made, found):
    before = [made.record(params={"steps": 40}), made.clean(), made.corrupted("fog")]
    after = [
        made.record(params={"steps": 20}, identity="b"),
        made.clean(identity="b"),
        made.corrupted("snow", identity="b"),
    ]
    diff = found(before, after)
    told = {(item.what, item.why) for item in diff.unpaired}
    assert ("pgd@linf:8/255", "not comparable: other parameters (steps=40 beside steps=20)") in told
    assert {("fog@3", "only in old"), ("snow@3", "only in new")} <= told
    assert [change.what for change in diff.changes] == ["clean"]
    assert ("attack", "pgd", "steps", "40", "20") in diff.made


def test_the_same_records_are_told_and_not_compared(made, found):
    kept = made.clean(model="kept")
    diff = found([made.clean(), kept], [made.clean(right=90, identity="b"), kept])
    assert diff.same == 1 and [change.who for change in diff.changes] == ["net"]
    assert "1 number of the very same records" in diff.sentence
    assert found([made.clean()], [made.clean()]).sentence.startswith("Nothing was measured anew")


def test_runs_of_other_models_are_told_which_they_have(made, found):
    before = [made.clean(model=name, identity=name) for name in ("a", "b")]
    diff = found(before, [made.clean(model="c", identity="c")])
    told = "No number can be compared: the runs have no model in common: old has a, b, new has c."
    assert diff.sentence == told


def test_weights_versions_data_and_recipes_that_differ_are_told(made, found):
    old = made.clean(weights="a" * 64, versions={"torch": "2.5", "numpy": "2.0"}, fingerprint="f0")
    new = made.clean(
        weights="b" * 64, versions={"torch": "2.6", "numpy": "2.0"}, fingerprint="f1", identity="b"
    )
    diff = found([old], [new])
    assert ("weights", "", "sha256", "a" * 64, "b" * 64) in diff.made
    assert ("version", "", "torch", "2.5", "2.6") in diff.made and (
        "data",
        "",
        "sha256",
        "f0",
        "f1",
    ) in diff.made
    assert all(made.name != "numpy" for made in diff.made)
    assert diff.unpaired[0].why == "not comparable: other images (f0 beside f1)"


def test_a_number_that_a_check_doubts_is_marked(made, found):
    lost = Check("vanishing_gradient", "fail", 0.5, "attack the logits")
    diff = found([made.record(right=150)], [made.record(right=50, identity="b", checks=[lost])])
    assert diff.changes[0].mark == "!" and "vanishing_gradient fails: attack the logits" in diff_text(diff)


def test_a_partial_run_is_told(made, tmp_path):
    runs = [made.save(tmp_path / name, made.clean(identity=name)) for name in ("old", "new")]
    planned = {"key": "x", "labels": {**made.record().labels, "params": {}}}
    (runs[1] / PLANNED).write_text(json.dumps({"cells": [planned]}))
    diff = compared(*map(Run, runs))
    assert diff.remarks == ("new is partial: 1 planned cell not measured",)
    assert diff.unpaired[0].why.startswith("not measured in new: planned and not measured")


def test_one_run_given_twice_is_refused(made, tmp_path):
    run = Run(made.save(tmp_path / "run", made.clean()))
    with pytest.raises(RobustEvalError, match="expected each run once"):
        compared(run, run)


def test_runs_of_one_name_are_told_apart_by_their_folders(made, tmp_path):
    runs = [Run(made.save(tmp_path / n / "run", made.clean(identity=n))) for n in ("a", "b")]
    assert (compared(*runs).before, compared(*runs).after) == ("a/run", "b/run")


@pytest.fixture
def hostile(made, found):
    names, right = [HOSTILE, "dog"], range(100)
    lost = Check("vanishing_gradient", "warn", 0.5, HOSTILE)
    shared = {"model": HOSTILE, "data": HOSTILE, "names": names}
    before = [
        made.clean(right=200, **shared),
        made.record(score=answers(right), params={HOSTILE: 1}, **shared),
    ]
    after = [
        made.clean(right=150, identity="b", versions={HOSTILE: HOSTILE}, **shared),
        made.record(score=answers(range(50)), params={HOSTILE: 2}, identity="b", checks=[lost], **shared),
    ]
    before[0].provenance["versions"] = {HOSTILE: "1"}
    return found(before, after)


def test_names_are_no_markup_in_any_format(hostile):
    from markdown_it import MarkdownIt

    page = as_html(hostile, ())
    assert (
        "<script>alert" not in page
        and "&lt;script&gt;alert" in page
        and "http" not in page.split("</style>")[1]
    )
    shown = MarkdownIt("commonmark").enable("table").render(as_markdown(hostile))
    assert "<script>" not in shown and shown.count("<table>") == 4
    out = StringIO()
    Console(file=out, width=80, force_terminal=True).print(diff_table(hostile))
    assert "[31m\n" not in out.getvalue()
    frame = pd.read_csv(StringIO(as_csv(hostile)))
    assert len(frame) == 1 and all(text.startswith("'=cmd()") for text in frame["model"])
    told = json.loads(as_json(hostile))
    assert told["schema"] == 1 and len(told["numbers"][0]["to_wrong"]) == 50


def test_a_terminal_of_80_columns_holds_the_table(made, found):
    before = [made.record(perturbation=p, right=180) for p in ("pgd", "fgsm")] + [made.clean()]
    after = [made.record(perturbation=p, right=60, identity="b") for p in ("pgd", "fgsm")]
    text = diff_text(found(before, [*after, made.clean(identity="b")]), width=80)
    assert max(map(len, text.splitlines())) <= 80
    (line,) = (line for line in text.splitlines() if line.startswith(" worst_case"))
    assert line.split()[1:4] == ["90.0", "→", "30.0"] and line.split()[-3:] == ["<0.001", "120", "0"]


def test_of_many_numbers_within_noise_some_are_counted(made, found):
    runs = [[made.corrupted(f"type{i}", identity=name) for i in range(20)] for name in "ab"]
    text = diff_text(found(*runs))
    assert "9 more within noise" in text and text.count("@3") == 11


def test_a_page_shows_what_records_keep_of_the_images_that_flipped(made, found, tmp_path):
    image = thumbnail(torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)))
    kept = {"index": 1, "label": "1", "prediction": "1", "confidence": 0.5, "picture": image}
    old, new = (
        made.clean(score=answers(range(100)), pictures=[kept]),
        made.clean(score=answers(()), identity="b"),
    )
    diff = found([old], [new])
    page = as_html(diff, [Run(tmp_path / "old"), Run(tmp_path / "new")])
    assert page.count("<img") == 1 and image in page and 'alt="1 (1 → 0)"' in page
    assert "99 images without a picture: the runs keep no experiment.toml that names their data." in page


def test_a_page_opens_the_data_of_the_experiment_where_it_is_what_was_measured(made, tmp_path):
    examples = open_source("digits").test(200)
    before, after = answers(range(200)), answers(range(30, 200))
    for folder, sha in (("digits", examples.fingerprint), ("others", "f0")):
        place = tmp_path / folder
        runs = [
            made.save(place / name, made.clean(score=score, identity=name, fingerprint=sha))
            for name, score in (("old", before), ("new", after))
        ]
        (runs[1] / "experiment.toml").write_text(
            '[data]\nname = "digits"\nn = 200\n[[train]]\nregularizer = "unknown"\n'
        )
        opened = list(map(Run, runs))
        page = as_html(compared(*opened), opened)
        if folder == "digits":
            assert page.count("<img") == 24 and "The first 24 of 30." in page
            assert all(thumbnail(examples.pixels(slice(i, i + 1))[0]) in page for i in range(24))
        else:
            assert "<img" not in page and "is not what was measured" in page


def test_a_run_folder_whose_data_is_code_is_not_opened(made, tmp_path):
    runs = [made.save(tmp_path / n, made.clean(right=k, identity=n)) for n, k in (("a", 180), ("b", 90))]
    (tmp_path / "a" / "code.py").write_text("raise SystemExit('run')\n")
    for run in runs:
        (run / "experiment.toml").write_text('[data]\nname = "code.py:images"\n')
    opened = list(map(Run, runs))
    page = as_html(compared(*opened), opened)
    assert "would run code" in page and "<img" not in page


def test_in_python_a_diff_is_one_call(made, tmp_path):
    runs = [made.save(tmp_path / n, made.clean(right=k, identity=n)) for n, k in (("old", 180), ("new", 90))]
    diff = robust_eval.diff(runs[0], robust_eval.load(runs[1]))
    assert diff.sentence.startswith("1 of 1 number changed beyond noise: net: clean fell by 45.0 points")
    assert list(diff.table()["to_wrong"]) == [90] and len(diff.flips()) == 90
    assert set(diff.flips()["direction"]) == {"to_wrong"} and list(diff.made()["kind"]) == ["model"]
    assert diff.page(tmp_path / "d.html").read_text().startswith("<!doctype html>") and "90.0 → 45.0" in str(
        diff
    )
