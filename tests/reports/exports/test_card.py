"""The card says what was measured and how, validates against its schema, and is safe to open."""

import json

import pytest

import reports
from reports.exports.card import card_json, card_markdown, card_of, plain
from robust_eval.config.card import Card, read_card
from robust_eval.errors import DataError
from robust_eval.findings import Check, Measurement
from robust_eval.results.store import Store

from .conftest import HOSTILE, SHA, clean, corrupted, markup, record

WARN = Check("convergence", "warn", 0.07, "run with twice the steps")
HALF = (1, 1, 1, 0, 0, 0, 0, 0)


def headline(card, **wanted):
    (number,) = [n for n in card.numbers if all(getattr(n, name) == value for name, value in wanted.items())]
    return number


def test_the_numbers_are_those_of_the_report_with_interval_and_verdict(of):
    weaker = record(name="fgsm", checks=[WARN])
    source, folders, _ = of(
        clean(), record(score=HALF), weaker, corrupted(), corrupted(name="snow", score=HALF)
    )
    card = card_of(source, folders)
    assert headline(card, what="clean").value == 6 / 8
    worst = headline(card, what="worst_case")
    assert (worst.norm, worst.eps, worst.value, worst.n) == ("linf", 8 / 255, 3 / 8, 8)
    assert worst.ci_low < 3 / 8 < worst.ci_high
    assert (worst.verdict, worst.checks) == ("warn", "convergence")
    mean = headline(card, what="corruptions")
    assert (mean.value, mean.ci_low) == (9 / 16, None)


def test_methods_stand_with_all_parameters_and_the_ways_they_were_used(of):
    made = [
        record(defense="jpeg", access=access, params={"eps": 8 / 255, "steps": 40})
        for access in ("transfer", "adaptive")
    ]
    minimal = record(
        name="cw",
        norm="l2",
        eps=None,
        params={"steps": 9},
        summary=[
            Measurement("accuracy", 0.5, 0.2, 0.8, 8, 0.25),
            Measurement("accuracy", 0.4, 0.2, 0.8, 8, 0.5),
        ],
    )
    source, folders, _ = of(clean(), minimal, *made, corrupted(params={"files": "C"}))
    card = card_of(source, folders)
    cw, pgd = card.attacks
    assert (cw.params, cw.norm, cw.eps, cw.version) == ({"steps": 9}, "l2", [0.25, 0.5], 2)
    assert (pgd.params["steps"], pgd.eps, pgd.access) == (40, [8 / 255], ["adaptive", "transfer"])
    (fog,), (jpeg,) = card.corruptions, card.defenses
    assert fog.params == {"severity": 3, "files": "C"} and jpeg.params == {"k": 2}
    assert {(t.norm, tuple(t.eps)) for t in card.threats} == {("l2", (0.25, 0.5)), ("linf", (8 / 255,))}


def test_models_images_and_versions_are_known_by_their_hashes(of):
    source, folders, _ = of(clean(), record(), experiment='name = "x"\n[data]\nname = "digits"\nn = 8\n')
    card = card_of(source, folders)
    (model,), (images,) = card.models, card.data
    assert (model.weights_sha256, model.architecture_params) == ([SHA], {"width": 4})
    assert (images.sha256, images.n, images.source) == ("f0", 8, {"name": "digits", "n": 8})
    assert card.versions == {"robust-eval": ["0.1.0"], "torch": ["2.9"]}
    assert card.cost["seconds"] == 3.0 and card.machine["device"] == ["cpu"]


def test_what_has_no_number_says_why_and_is_never_zero(of, tmp_path):
    labels = {**record("other").labels, "perturbation": "square"}
    failure = {"key": "f" * 64, "labels": labels, "error": "Traceback\nRuntimeError: out of memory"}
    Store(tmp_path / "run").fail(**failure)
    without = corrupted(summary=[Measurement("accuracy", None, None, None, 0)])
    source, folders, _ = of(clean(), clean("other"), record(), without)
    card = card_of(source, folders)
    assert headline(card, what="clean", model="other").value == 6 / 8
    missing = headline(card, what="worst_case", model="other")
    assert (missing.value, missing.ci_low, missing.n) == (None, None, None)
    assert missing.reason == "failed: RuntimeError: out of memory"
    assert [(f.model, f.perturbation, f.error) for f in card.failed] == [
        ("other", "square", "RuntimeError: out of memory")
    ]
    assert "1 cells, in card.json with their errors" in card_markdown(source, card)


def test_a_cell_that_failed_once_and_has_a_record_now_is_not_told(of, tmp_path):
    again = record()
    Store(tmp_path / "run").fail(again.key, again.labels, "RuntimeError: x")
    source, folders, _ = of(clean(), again)
    assert card_of(source, folders).failed == []


def test_cells_stand_at_the_run_they_came_from(of, tmp_path):
    of(clean(), experiment='name = "a"\n', name="one/run")
    of(clean("other"), record("other"), experiment='name = "b"\n', name="two/run")
    runs = [tmp_path / "one/run", tmp_path / "two/run"]
    reports.write(runs, tmp_path / "out")
    card = read_card(tmp_path / "out" / "card.json")
    assert [(run.name, len(run.cells)) for run in card.runs] == [("run", 1), ("run (2)", 2)]
    assert [run.command for run in card.runs] == [
        "robust-eval run card.json --of run",
        "robust-eval run card.json --of 'run (2)'",
    ]


def test_an_experiment_that_json_cannot_hold_is_told(of):
    source, folders, _ = of(clean(), experiment='name = "x"\neps = inf\n')
    (run,) = card_of(source, folders).runs
    assert run.experiment is None and run.command is None and "inf or a date" in run.not_repeatable
    source, folders, _ = of(clean(), experiment="name = [", name="broken")
    (run,) = card_of(source, folders).runs
    assert "not valid TOML" in run.not_repeatable


def test_what_comes_from_records_is_escaped_in_both_files(of):
    source, folders, _ = of(
        clean(HOSTILE),
        record(HOSTILE, name="<img src=x onerror=y>", params={"a|b": "<b>`"}),
        experiment='name = "<script>"\n',
        name="<i>run",
    )
    card = card_of(source, folders)
    page = card_markdown(source, card)
    plain = {"h1", "h2", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong"}
    assert markup(page) <= plain
    assert Card.model_validate(json.loads(card_json(card))) == card


def test_numbers_that_are_none_are_words():
    assert plain({"a": [float("inf"), (1, None)], "b": float("nan")}) == {"a": ["inf", [1, None]], "b": "nan"}


def test_both_files_are_written_with_every_report_and_the_same_for_the_same_records(of, tmp_path):
    _, _, folder = of(clean(), record())
    reports.write([folder], tmp_path / "a")
    reports.write([folder], tmp_path / "b")
    for name in ("card.json", "card.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not (tmp_path / "a" / "exports").exists()


def test_an_export_that_is_no_longer_asked_for_goes_and_files_of_the_user_stay(of, tmp_path):
    _, _, folder = of(clean(), record())
    reports.write([folder], tmp_path / "out", exports=["robustbench", "huggingface"])
    place = tmp_path / "out" / "exports"
    (place / "robustbench" / "adversarials.pt").write_bytes(b"mine")
    (place / "robustbench" / "adversarials").mkdir()
    (place / "robustbench" / "adversarials" / "net.pt").write_bytes(b"of an earlier report")
    assert (place / "huggingface" / "net" / "README.md").exists()
    reports.write([folder], tmp_path / "out")
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["adversarials.pt"]
    assert not (place / "huggingface" / "net").exists()


def test_an_export_folder_that_is_a_link_is_refused(of, tmp_path):
    _, _, folder = of(clean())
    (tmp_path / "theirs").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "exports").symlink_to(tmp_path / "theirs")
    with pytest.raises(DataError, match="got a link"):
        reports.write([folder], tmp_path / "out", exports=["robustbench"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["exports"]
