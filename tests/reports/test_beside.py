"""Runs beside one another: what is alike is compared on the same images, what is not is refused with its reason."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

import reports
from reports.paired import difference, holm
from reports.runs import aligned
from reports.scores import Scored
from reports.section import Source
from reports.sections.answer import answer
from reports.sections.beside import sections
from reports.standing import standings
from robust_eval.errors import DataError
from robust_eval.identity import content_key
from robust_eval.results.load import load
from robust_eval.results.runs import run_names

_records = importlib.util.spec_from_file_location("records", Path(__file__).with_name("test_reports.py"))
assert _records is not None and _records.loader is not None
made = importlib.util.module_from_spec(_records)
_records.loader.exec_module(made)
N, clean, corrupted, minimal, record, save = (
    made.N,
    made.clean,
    made.corrupted,
    made.minimal,
    made.record,
    made.save,
)

FEW = [1, 0, 0, 0, 0, 0, 0, 0]


def beside(tmp_path, one, two):
    folders = [save(tmp_path / "one", *one), save(tmp_path / "two", *two)]
    return aligned(load(folders), "one", "two")


def test_what_both_have_is_compared_image_by_image(tmp_path):
    old = [clean(identity="a"), record(identity="a")]
    new = [clean(identity="b"), record(identity="b", score=FEW)]
    found = beside(tmp_path, old, new)
    assert [number.what for number in found.shared] == ["clean", "pgd linf 8/255"]
    scores = [each.rows.set_index("index")["score"] for each in (*old, *new)]
    wanted = [difference(scores[2], scores[0]), difference(scores[3], scores[1])]
    ps = holm([each.p for each in wanted])
    for number, expected, p in zip(found.shared, wanted, ps, strict=True):
        assert number.difference == expected._replace(p=p)
    assert found.shared[1].values == (0.75, 0.125)
    assert not found.unlike and found.alone == ((), ()) and not found.same


def test_the_same_record_in_both_counts_once_and_is_no_comparison(tmp_path):
    found = beside(tmp_path, [clean(), record()], [clean(), record(perturbation="fgsm")])
    assert (found.same, found.shared) == (1, ())
    assert [entry.labels["perturbation"] for own in found.alone for entry in own] == ["pgd", "fgsm"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"fingerprint": "f1"}, "other images (f0 beside f1)"),
        ({"eps": 4 / 255}, "another radius (8/255 beside 4/255)"),
        ({"params": {"steps": 40}}, "other parameters (steps=10 beside steps=40)"),
    ],
)
def test_numbers_that_are_not_comparable_are_refused_with_the_reason(tmp_path, fields, reason):
    given = {"params": {"steps": 10}}
    found = beside(tmp_path, [record(**given)], [record(identity="b", **{**given, **fields})])
    assert [each.reason for each in found.unlike] == [reason] and not found.shared
    assert found.alone == ((), ())


def test_another_number_of_images_and_another_severity_are_reasons(tmp_path):
    fewer = clean(identity="b", fingerprint="f1")
    fewer.spec["data"]["n"] = 4
    found = beside(
        tmp_path,
        [clean(), corrupted(severity=3)],
        [replace(fewer, key=content_key(fewer.spec)), corrupted(severity=5, identity="b")],
    )
    assert {each.reason for each in found.unlike} == {
        f"another number of images ({N} beside 4)",
        "another severity (3 beside 5)",
    }


def test_only_like_worst_cases_are_compared(tmp_path):
    both = [record(), record(perturbation="fgsm")]
    changed = [record(identity="b"), record(perturbation="fgsm", identity="b", score=FEW)]
    found = beside(tmp_path / "x", both, changed)
    assert [number.what for number in found.shared][-1] == "worst case linf 8/255"
    assert found.shared[-1].values == (0.75, 0.125)
    found = beside(tmp_path / "y", both, [*changed, record(perturbation="bim", identity="b")])
    assert "worst case linf 8/255" not in [number.what for number in found.shared]


def test_attacks_for_the_smallest_perturbation_are_compared_at_shared_radii(tmp_path):
    found = beside(tmp_path, [minimal()], [minimal(identity="b")])
    assert [(number.what, number.values) for number in found.shared] == [("cw l2 0.5", (0.375, 0.375))]


def test_runs_without_a_common_model_are_compared_pair_by_pair_where_they_are_few(tmp_path):
    found = beside(tmp_path, [clean("a")], [clean("b"), clean("c")])
    assert [number.model for number in found.shared] == ["a / b", "a / c"]


def test_many_corruptions_are_compared_by_their_mean(tmp_path):
    names = [
        "fog",
        "snow",
        "frost",
        "contrast",
        "brightness",
        "pixelate",
        "gaussian_noise",
        "shot_noise",
        "zoom_blur",
    ]
    old = [corrupted(name=name) for name in names]
    new = [corrupted(name=name, identity="b", score=FEW) for name in names]
    (number,) = beside(tmp_path, old, new).shared
    assert (number.what, number.values) == ("mean of 9 corruptions", (0.75, 0.125))


def test_the_report_tells_it_in_words_and_one_run_has_no_such_section(tmp_path):
    one = save(tmp_path / "one", clean(), record(), corrupted())
    two = save(tmp_path / "two", clean(identity="b"), record(identity="b", eps=4 / 255))
    assert not list(sections(Source(load([one]))))
    written = reports.write([one, two], tmp_path / "out")
    (line,) = written.beside
    assert line == (
        "two beside one: 1 number compared, of which none differ; 1 number not comparable; 1 number in one alone."
    )
    text = (tmp_path / "out" / "table.md").read_text()
    assert "## Runs beside one another" in text and "another radius (8/255 beside 4/255)" in text
    assert "only in one | 1 | net: fog s3" in text
    order = reports.write([two, one], tmp_path / "out")
    assert order.runs == ("two", "one") and order.beside[0].startswith("one beside two: ")


def test_three_runs_are_compared_pair_by_pair_and_more_with_the_first(tmp_path):
    folders = [save(tmp_path / f"r{i}", clean(identity=f"{i}")) for i in range(5)]
    assert len(reports.write(folders[:3], tmp_path / "out").beside) == 3
    assert len(reports.write(folders, tmp_path / "out").beside) == 1 + 4


def test_lines_on_different_images_are_told_apart_and_never_ranked_together(tmp_path):
    one = save(tmp_path / "one", clean("a", score=[1] * N))
    two = save(tmp_path / "two", clean("b", fingerprint="f1", score=[0] * N))
    source = Source(load([one, two]))
    assert len({line.data for line in source.table.lines}) == 2
    assert standings(source.table, Scored(source.entries, ())) == {}
    (sentence,) = (text for text in answer(source).sentences if "different images" in text)
    assert "one of digits" in sentence and "two of digits" in sentence
    alike = Source(load([one, save(tmp_path / "three", clean("b"))]))
    assert not any("different images" in text for text in answer(alike).sentences)


def test_folders_of_one_name_have_names_of_their_own(tmp_path):
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]
    assert run_names(folders) == ("a/run", "b/run", "c")
    loaded = load([save(folder, clean(f"m{i}", identity=f"{i}")) for i, folder in enumerate(folders)])
    assert [entry.run for entry in loaded.entries] == ["a/run", "b/run", "c"]


def test_the_same_run_twice_and_what_is_no_run_are_refused_by_name(tmp_path, monkeypatch):
    save(tmp_path / "runs" / "mine", clean())
    (tmp_path / "runs" / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"each run once, got .* twice \(also as runs/mine\)"):
        load([Path("runs/mine"), tmp_path / "runs" / "mine"])
    with pytest.raises(DataError, match=r"did you mean 'mine'\?.*no such folder"):
        load([Path("runs/min")])
    with pytest.raises(DataError, match="a folder of runs; name those in it: runs/mine"):
        load([Path("runs")])
    with pytest.raises(DataError, match="run an experiment first"):
        load([Path("runs/empty")])


def test_hostile_names_of_models_and_runs_come_out_escaped(tmp_path):
    name = "<script>alert(1)</script>|=cmd()"
    one = save(tmp_path / "=one <b>", clean(name))
    two = save(tmp_path / "two", clean(name, identity="b"))
    reports.write([one, two], tmp_path / "out")
    for file in ("index.html", "table.md"):
        assert "<script>alert" not in (tmp_path / "out" / file).read_text()
        assert "<b>" not in (tmp_path / "out" / file).read_text()
