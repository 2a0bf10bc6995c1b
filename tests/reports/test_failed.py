"""What failed is shown as such: never as zero, never left away, and counted in nothing that is made of numbers."""

import importlib.util
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import reports
from reports.section import Source
from reports.sections.answer import answer
from reports.tables import CLEAN, MEAN, Column
from robust_eval.identity import content_key
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store

_records = importlib.util.spec_from_file_location("records", Path(__file__).with_name("test_reports.py"))
assert _records is not None and _records.loader is not None
made = importlib.util.module_from_spec(_records)
_records.loader.exec_module(made)
N, LINF, clean, corrupted, minimal, record, save = (
    made.N,
    made.LINF,
    made.clean,
    made.corrupted,
    made.minimal,
    made.record,
    made.save,
)

ERROR = "Traceback (most recent call last):\n  File x\nRuntimeError: out of memory; tried 2 GiB"
TOLD = "RuntimeError: out of memory, tried 2 GiB"
WORST = Column("attack", "worst_case", "linf", LINF)


def fail(folder: Path, *failed: Record, error: str = ERROR, spec: bool = True) -> Path:
    for item in failed:
        Store(folder).fail(item.key, item.labels, error, item.spec if spec else None)
    return folder


def table(*folders: Path):
    return Source(load(list(folders))).table


def only(found, column, model="net", access="none"):
    (number,) = (
        number
        for (line, each), number in found.cells.items()
        if (line.model, line.access, each) == (model, access, column)
    )
    return number


@pytest.mark.parametrize("spec", [True, False], ids=["with what was asked", "an older note"])
def test_a_failed_cell_stands_where_its_number_would(tmp_path, spec):
    run = save(tmp_path, clean(), clean("other"), record("other"), corrupted("other"))
    fail(run, record(), corrupted(), spec=spec)
    found = table(run)
    for column in (Column("attack", "pgd", "linf", LINF), Column("corruption", "fog", severity=3)):
        number = only(found, column)
        assert (number.short, number.full, number.value, number.mark) == ("failed", "failed", None, "")
        assert number.failed == TOLD
    assert only(found, CLEAN).value == 0.75
    # the same columns as the other model, and no name that only a failure would explain
    assert {column.perturbation for column in found.columns} <= {"none", "pgd", "fog", MEAN.perturbation}


def test_a_model_of_which_everything_failed_is_a_line_of_failures(tmp_path):
    run = fail(save(tmp_path, clean("other"), record("other")), clean(), record())
    found = table(run)
    assert [line.model for line in found.lines] == ["net", "other"]
    assert {number.short for (line, _), number in found.cells.items() if line.model == "net"} == {"failed"}


def test_a_cell_that_was_measured_since_has_not_failed(tmp_path):
    run = fail(save(tmp_path / "one", clean()), record())
    assert load([run]).broken
    other = save(tmp_path / "two", record())
    assert not load([run, other]).broken
    save(run, record())
    assert not load([run]).broken


def test_a_failure_of_code_that_was_mended_since_is_forgotten_and_a_later_one_is_not(tmp_path):
    run = fail(save(tmp_path, clean(identity="new"), record(identity="new")), record(identity="old"))
    note = tmp_path / "failed" / f"{record(identity='old').key}.json"
    os.utime(note, (1, 1))
    assert not load([run]).broken and [line.model for line in table(run).lines] == ["net"]
    os.utime(note, None)
    (broken,) = load([run]).broken
    assert broken.error == TOLD


def test_a_mean_leaves_out_what_failed_and_says_how_many(tmp_path):
    kinds = [("fog", [1] * N), ("snow", [1, 1, 1, 1, 0, 0, 0, 0])]
    run = save(tmp_path, clean(), *(corrupted(name=name, score=score) for name, score in kinds))
    fail(run, corrupted(name="frost"))
    mean = only(table(run), MEAN)
    assert (mean.value, mean.of, mean.short) == (0.75, (2, 3), "75.0 (2 of 3)")
    alone = fail(save(tmp_path / "alone", clean()), corrupted(), corrupted(name="snow"))
    assert only(table(alone), MEAN).short == "failed"


def test_a_worst_case_without_one_of_its_attacks_is_marked_and_is_nobodys_best(tmp_path):
    run = save(tmp_path, clean(), record(score=[1] * N))
    save(run, clean("other"), record("other", score=[0] * N), record("other", perturbation="fgsm"))
    fail(run, record(perturbation="fgsm"))
    found = answer(Source(load([run])))
    of = {line.line.model: dict(zip(found.columns, line.cells, strict=True)) for line in found.lines}
    cell = of["net"][WORST]
    assert (cell.number.value, cell.number.mark, cell.standing) == (1.0, "?", "")
    assert "?: a check warns" in found.legend
    row = load([run]).results.query("perturbation == 'worst_case' and model == 'net'").iloc[0]
    assert json.loads(row["params"]) == {"over": ["pgd"], "failed": ["fgsm"]}
    assert row["checks"] == "attack_failed (not made)"


def test_a_worst_case_of_which_all_attacks_failed_has_failed(tmp_path):
    run = save(tmp_path, clean(), clean("other"), record("other"), record("other", perturbation="fgsm"))
    fail(run, record(), record(perturbation="fgsm"))
    number = only(table(run), WORST)
    assert (number.short, number.failed) == ("failed", "fgsm, pgd failed")


def test_of_a_defended_model_whose_adaptive_attack_failed_the_transfer_number_is_not_shown_as_the_worst(
    tmp_path,
):
    run = save(
        tmp_path, clean(), record(), clean(defense="mixing"), record(defense="mixing", access="transfer")
    )
    fail(run, record(defense="mixing", access="adaptive"))
    found = answer(Source(load([run])))
    (line,) = (line for line in found.lines if line.line.defense == "mixing")
    assert line.cells[-1] is not None and line.cells[-1].number.short == "failed"


def test_an_attack_for_the_smallest_perturbation_that_failed_is_missing_at_each_radius(tmp_path):
    run = fail(save(tmp_path, clean(), clean("other"), minimal("other")), minimal())
    found = load([run])
    shown = found.results[found.results["perturbation"] == "cw"]
    lost = shown[shown["model"] == "net"]
    assert set(zip(lost["metric"], lost["eps"].fillna(-1), strict=True)) == {
        ("accuracy", 0.5),
        ("median_distance", -1),
    }
    assert lost["value"].isna().all() and lost["n"].isna().all()


def test_the_answer_counts_them_in_one_sentence(tmp_path):
    run = fail(save(tmp_path, clean(), record()), corrupted(), record(perturbation="fgsm"))
    (sentence,) = (text for text in answer(Source(load([run]))).sentences if "failed" in text)
    assert sentence.startswith(
        "2 cells failed: fgsm linf 8/255 on net and fog s3 on net (RuntimeError: out of"
    )
    assert "run it again" in sentence
    assert not any(
        "failed" in text for text in answer(Source(load([save(tmp_path / "x", clean())]))).sentences
    )


def test_every_format_says_failed_and_none_lets_an_error_through_as_markup(tmp_path):
    hostile = "x\nRuntimeError: <script>alert(1)</script> | \x1b[31m =cmd() \\input{x}"
    run = fail(save(tmp_path / "run", clean(), clean("other"), record("other")), record(), error=hostile)
    written = reports.write([run], tmp_path / "out")
    page, markdown, tex = (
        (written.out / name).read_text() for name in ("index.html", "table.md", "table.tex")
    )
    assert "failed" in page and "<script>alert" not in page
    assert (
        "| net | none | 75.0" in markdown.replace("**", "")
        and "failed |" in markdown
        and "<script>" not in markdown
    )
    assert "& failed" in tex and "\\input" not in tex
    csv = pd.read_csv(written.out / "results.csv")
    row = csv[(csv["model"] == "net") & (csv["perturbation"] == "pgd")].iloc[0]
    assert pd.isna(row["value"]) and row["checks"].startswith("failed: RuntimeError: <script>")
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(written.first(width=100))
    console.print(reports.terminal(written.results, width=100))
    text = console.export_text()
    assert text.count("failed") >= 2 and "\x1b" not in text
    number = json.loads(written.data())["lines"][1]["numbers"][1]
    assert number["value"] is None and number["failed"].startswith("RuntimeError")
    for name in ("index.html", "table.md", "table.tex", "results.csv"):
        assert "\x1b" not in (written.out / name).read_text()


def of_recipe(model: str, seed: int, correct: int) -> Record:
    """A training of a recipe that each model has of its own."""
    one = made.trained(seed, correct, model=model)
    spec = {**one.spec, "model": {"recipe": {"name": model, "seed": seed}}}
    return replace(
        one,
        key=content_key(spec),
        spec=spec,
        labels={**one.labels, "model_key": content_key({"model": spec["model"]})},
    )


def test_a_line_with_fewer_trainings_than_the_others_says_so(tmp_path):
    run = save(tmp_path, *(of_recipe("net", seed, 4) for seed in range(3)))
    save(run, *(of_recipe("other", seed, 6) for seed in range(2)), of_recipe("single", 0, 2))
    found = table(run)
    assert only(found, CLEAN).short == "50.0 ± 0.0"
    assert only(found, CLEAN, "other").short == "75.0 ± 0.0 (2 of 3 trainings)"
    assert (only(found, CLEAN, "other").trainings, only(found, CLEAN, "other").asked) == (2, 3)
    assert only(found, CLEAN, "single").short == "25.0 (1 of 3 trainings)"


def test_a_training_that_failed_is_left_out_of_the_mean_over_seeds(tmp_path):
    run = save(tmp_path, of_recipe("net", 0, 8), of_recipe("net", 1, 0))
    fail(run, of_recipe("net", 2, 8))
    number = only(table(run), CLEAN)
    assert (number.value, number.trainings, number.asked) == (0.5, 2, 3)


def test_of_models_with_one_training_each_nothing_is_said(tmp_path):
    run = save(tmp_path, clean(train_seed=0), clean("other", train_seed=1, identity="o"))
    assert {number.short for number in table(run).cells.values()} == {"75.0"}
