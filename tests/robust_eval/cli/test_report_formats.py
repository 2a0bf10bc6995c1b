"""What a report prints: the answer, or one document for a pipe; what is wrong is one line, and nothing is written."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import pytest

from robust_eval.cli import main
from robust_eval.results.store import Store

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def run(done, own):
    """A run folder with a clean record and an attack."""
    done(*own, "--attacks", "fgsm")
    return Path("out")


def test_each_format_stands_on_stdout_alone_and_is_the_file_of_that_name(cli, run):
    for name, file in (("md", "table.md"), ("csv", "results.csv"), ("tex", "table.tex")):
        outcome = cli("report", run, "--format", name)
        assert (outcome.code, outcome.out) == (0, (run / "report" / file).read_text())
        assert outcome.err == "report: out/report/index.html\n"
    rows = list(csv.DictReader(io.StringIO(cli("report", run, "--format", "csv").out)))
    assert {row["perturbation"] for row in rows} == {"none", "fgsm"}


def test_json_is_the_answer_as_data(cli, run):
    told = json.loads(cli("report", run, "--format", "json").out)
    assert told["schema"] == 1 and told["runs"] == ["out"] and told["report"] == "out/report"
    assert [column["text"] for column in told["columns"]] == ["clean", "worst case linf 8/255"]
    (line,) = told["lines"]
    assert (line["model"], line["defense"], line["attacker"]) == ("make", "none", None)
    for number in line["numbers"]:
        assert number["low"] <= number["value"] <= number["high"] and number["n"] == 12
        assert number["failed"] is None and number["trainings"] == number["trainings_asked"] == 1
    assert told["sentences"] and Path(told["results"]).exists()


def test_evaluate_and_run_print_formats_too_with_progress_on_stderr(cli, own):
    outcome = cli(*own, "--attacks", "fgsm", "--format", "json")
    assert outcome.code == 0 and json.loads(outcome.out)["lines"]
    assert "[2/2]" in outcome.err and "2 cells: 2 measured" in outcome.err
    outcome = cli("run", "out", "--allow-imports", "--format", "csv")
    assert outcome.code == 0 and outcome.out.startswith("model,arch,")


def test_the_table_is_the_answer_and_every_number_is_a_flag_away(cli, run):
    short = cli("report", run).out
    assert "worst case" in short and "fgsm" not in short and short.endswith("report: out/report/index.html\n")
    for flag in ("--all", "--verbose"):
        whole = cli("report", run, flag).out
        assert whole.index("fgsm") < whole.index("worst case") and short in whole


def test_quiet_prints_nothing_but_what_a_format_asks_for(cli, run):
    assert cli("report", run, "--quiet")[:3] == (0, "", "")
    assert json.loads(cli("report", run, "--quiet", "--format", "json").out)["schema"] == 1
    assert cli("report", run, "--quiet", "--format", "json").err == ""
    refused = cli("report", "nowhere", "--quiet")
    assert refused.code == 2 and refused.err.startswith("error: ")


def test_what_is_wrong_is_one_line_and_nothing_is_written(cli, run):
    Path("empty").mkdir()
    Path("file").write_text("")
    for wrong, told in (
        (
            ("out", "--format", "jsn"),
            "unknown format 'jsn' (did you mean 'json'?); known: csv, json, md, table, tex",
        ),
        (("out", "out/../out"), "expected each run once, got out/../out twice (also as out)"),
        (("ouut",), "got ouut (did you mean 'out'?); there is no such folder"),
        (("empty",), "got empty; run an experiment first"),
        (("out/records",), "got out/records, a folder within a run; give the run: "),
        (("out", "--baseline", "nobody"), "baseline: expected make, got 'nobody'"),
        (("out", "--out", "file/report"), "expected a folder"),
    ):
        outcome = cli("report", *wrong, *([] if "--out" in wrong else ["--out", "new"]))
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome
        assert told in outcome.err and not Path("new").exists()
    outcome = cli(
        "evaluate", "--arch", "net.py:make", "--data", "data.npz", "--format", "xml", "--out", "new"
    )
    assert outcome.code == 2 and "unknown format 'xml'" in outcome.err and not Path("new").exists()


def test_a_pipe_that_was_closed_ends_it_quietly(run, monkeypatch, capsys):
    for words in (["report", "out"], ["report", "out", "--format", "csv"], ["list"]):
        read, write = os.pipe()
        os.close(read)
        with open(write, "w") as closed, monkeypatch.context() as patch:  # noqa: PTH123
            patch.setattr(sys, "argv", ["robust-eval", *words])
            patch.setattr(sys, "stdout", closed)
            with pytest.raises(SystemExit) as stop:
                main()
        assert stop.value.code == 141 and capsys.readouterr().err == ""


def test_hostile_names_reach_no_format_as_commands(cli, run):
    evil = "\x1b[31m=cmd()<script>\\input{x}"
    for record in list(Store(run).records()):
        labels = {**record.labels, "model": evil}
        Store(Path("evil")).write(type(record)(**{**vars(record), "labels": labels}))
    for name in ("table", "md", "csv", "json", "tex"):
        out = cli("report", "evil", "--format", name).out
        assert "\x1b" not in out and "cmd()" in out.replace(r"\allowbreak{}", ""), name
        if name == "tex":
            assert "\\input" not in out
        if name == "md":
            assert "<script>" not in out
    assert json.loads(cli("report", "evil", "--format", "json").out)["lines"]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_number_is_broken_or_cut_at_any_width(cli, run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = cli("report", run).out.splitlines()
    assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
    (row,) = (line for line in lines if line.strip().startswith("make "))
    assert len(row.split()) >= 4
