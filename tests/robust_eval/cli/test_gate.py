"""The gate and power at the command line: exit codes, files, one step for a build; from two checkpoints to red."""

import json
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import robust_eval
from robust_eval.errors import RobustEvalError

TOML = (
    '[[rule]]\nname = "floor"\nmin = "pgd@8/255 >= 50%"\n[[rule]]\nname = "kept"\nmax_drop = "*@8/255 1%"\n'
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of three linear models on bars: a good one, another good one, and one whose weights were half lost."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = 0.3 * rng.random((240, 1, 6, 6), dtype=np.float32)
    for image, k in zip(images, labels, strict=True):
        image[0, 2 * k : 2 * k + 2] += 0.12
    weight = torch.zeros(3, 6, 6)
    for k in range(3):
        weight[k, 2 * k : 2 * k + 2] = 1.0
    made = {}
    for name, scale, lost in (("last", 1.0, 0), ("same", 2.0, 0), ("worse", 1.0, 5)):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3, bias=False))
        with torch.no_grad():
            net[1].weight.copy_((scale * weight).flatten(1))
            net[1].weight[:, :lost] += 2.0 * torch.tensor([[1.0], [-1.0], [0.0]])
        robust_eval.evaluate(
            net,
            images,
            labels,
            attacks="pgd",
            eps="8/255",
            name="net",
            out=folder / name,
            fields={"pgd": {"steps": 5}},
        )
        made[name] = folder / name
    return made


def test_a_run_that_keeps_what_it_had_is_green_and_one_that_lost_it_is_red(cli, runs, tmp_path):
    (tmp_path / "gate.toml").write_text(TOML)
    rules = ("--baseline", runs["last"], "--rules", "gate.toml", "--checks", "warn")
    green, red = cli("gate", runs["same"], *rules), cli("gate", runs["worse"], *rules)
    assert green.code == 0 and green.out.splitlines()[-1].split(":")[0] in ("pass", "warn"), green
    assert red.code == 1 and "FAIL: kept: net: pgd@linf:8/255: dropped by" in red.out, red


def test_each_file_is_written_and_belongs_to_the_verdict(cli, runs, tmp_path):
    asked = ("--junit", "o/gate.xml", "--sarif", "o/gate.sarif", "--summary", "o/gate.md")
    done = cli("gate", runs["worse"], "--min", "clean >= 99.9%", "--checks", "warn", *asked)
    assert done.code == 1
    assert ElementTree.parse(tmp_path / "o/gate.xml").getroot().get("failures") == "1"
    assert json.loads((tmp_path / "o/gate.sarif").read_text())["runs"][0]["results"][0]["level"] == "error"
    assert "**FAIL: 0 of 1 pass, 1 failed**" in (tmp_path / "o/gate.md").read_text()


def test_as_json_the_verdict_stands_alone_on_stdout(cli, runs):
    done = cli("gate", runs["worse"], "--min", "clean >= 99.9%", "--checks", "warn", "--format", "json")
    told = json.loads(done.out)
    assert (done.code, told["code"], told["rules"][0]["outcome"], done.err) == (1, 1, "fail", "")


def test_what_cannot_be_judged_is_exit_code_3(cli, runs):
    done = cli("gate", runs["last"], "--min", "auto_attack@8/255 >= 0.1")
    assert done.code == 3 and "cannot judge" in done.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--min", "clean >= 45"], "write 45% or 0.45"),
        (["--min", "pdg@8/255 >= 0.4"], "did you mean 'pgd'?"),
        ([], "expected a rule, got none"),
        (["--max-drop", "clean 1%"], "give one with --baseline RUN"),
        (["--min", "clean >= 1%", "--confidence", "95"], "write 0.95"),
        (["--min", "clean >= 1%", "--checks", "of"], "expected must or warn"),
        (["--rules", "no.toml"], "expected a TOML file, got none"),
        (["--min", "clean >= 1%", "--format", "jsn"], "did you mean 'json'?"),
        (["--min", "clean >= 1%", "--junit", "."], "expected a file to write, got a folder"),
        (["--min", "clean >= 1%", "--junit", "a", "--sarif", "a"], "got one for two"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(cli, runs, tmp_path, arguments, line):
    done = cli("gate", runs["last"], *arguments)
    assert (done.code, done.out) == (2, "") and line in done.err and done.err.count("\n") == 1
    assert not list(tmp_path.glob("a"))


def test_a_folder_that_is_no_run_is_named(cli, runs):
    done = cli("gate", runs["last"].parent / "lst", "--min", "clean >= 1%")
    assert done.code == 2 and "did you mean 'last'?" in done.err
    done = cli("gate", runs["last"], "--baseline", runs["last"], "--max-drop", "clean 1%")
    assert done.code == 2 and "the run itself" in done.err


@pytest.mark.usefixtures("undrawn")
def test_evaluate_measures_and_judges_in_one_step(cli, own, tmp_path):
    (tmp_path / "gate.toml").write_text('[[rule]]\nmin = "clean >= 0%"\n[[rule]]\nmax_drop = "clean 100%"\n')
    small = (*own, "--attacks", "none")
    refused = cli(*small, "--gate", "gate.toml")
    assert (
        refused.code == 2
        and "expected a baseline to drop from" in refused.err
        and not (tmp_path / "out").exists()
    )
    same = cli(*small, "--gate", "gate.toml", "--baseline", "out")
    assert same.code == 2 and "give --out a folder of its own" in same.err
    assert cli(*small, "--baseline", "x").code == 2
    (tmp_path / "least.toml").write_text('[[rule]]\nmin = "clean >= 0%"\n')
    assert cli(*small, "--gate", "least.toml").code == 0
    (tmp_path / "least.toml").write_text('[[rule]]\nmin = "clean >= 100%"\n')
    red = cli(*small, "--gate", "least.toml", "--format", "json")
    assert red.code == 1 and json.loads(red.out) and "FAIL" in red.err


@pytest.mark.usefixtures("undrawn")
def test_when_the_time_is_up_what_was_measured_is_reported_and_the_gate_says_what_it_cannot_judge(
    cli, own, tmp_path, monkeypatch
):
    (tmp_path / "gate.toml").write_text('[[rule]]\nmin = "clean >= 0%"\n[[rule]]\nmin = "pgd@8/255 >= 0%"\n')
    measured = (tmp_path / "out" / "records").glob
    clock = SimpleNamespace(monotonic=lambda: 61.0 if any(measured("*/*.json")) else 0.0)
    monkeypatch.setattr("robust_eval.run.deadline.time", clock)
    small = (*own, "--attacks", "pgd,fgsm", "--gate", "gate.toml")
    partial = cli(*small, "--max-minutes", 1)
    assert partial.code == 3, partial
    assert "partial: 2 of 3 cells not measured: 1 minutes are over" in partial.err
    assert "pgd@linf:8/255: planned and not measured" in partial.out
    assert "out is partial: 2 planned cells not measured" in (tmp_path / "out/report/table.md").read_text()
    whole = cli(*small)
    assert whole.code == 3 and "partial" not in whole.out  # --checks off: nothing vouches for pgd
    assert "was not examined" in whole.out


@pytest.mark.usefixtures("undrawn")
def test_without_time_nothing_is_measured_and_nothing_can_be_judged(cli, own, tmp_path):
    (tmp_path / "gate.toml").write_text('[[rule]]\nmin = "clean >= 0%"\n')
    assert cli(*own, "--max-minutes", 0).code == 1
    done = cli(*own, "--max-minutes", 0, "--gate", "gate.toml")
    assert done.code == 3 and "nothing was measured" in done.err


def test_in_python_a_gate_is_one_call(runs):
    found = robust_eval.gate(
        runs["worse"], rules=["clean >= 10%", {"min": "clean >= 99.9%", "name": "all"}], checks="warn"
    )
    assert (found.passed, found.code, bool(found)) == (False, 1, False)
    table = found.table()
    assert list(table["outcome"]) == ["FAIL", "warn"] and list(table["rule"]) == ["all", "clean >= 10%"]
    assert "FAIL: 0 of 2 pass, 1 with a warning, 1 failed" in str(found) and found.summary().startswith(
        "## Robustness gate: worse"
    )
    results = robust_eval.load(runs["worse"])
    dropped = robust_eval.gate(results, baseline=runs["last"], rules="max-drop clean 1%", checks="warn")
    assert dropped.code == 1
    with pytest.raises(RobustEvalError, match="got none"):
        robust_eval.gate(results, rules=[])


def test_power_tells_the_smallest_drop_and_the_images_that_one_needs(done, runs):
    text = done("power", "--n", 500, "--drop", "2%")
    assert "4.0 %" in text and "2,000" in text
    lines = json.loads(done("power", "--n", 500, "--agreement", 0.9, "--format", "json"))["lines"]
    assert len(lines) == 1 and lines[0]["smallest_drop"] == pytest.approx(0.0399, abs=1e-3)
    beside = json.loads(
        done("power", "--run", runs["worse"], "--baseline", runs["last"], "--format", "json")
    )["lines"]
    assert [line["what"] for line in beside] == ["net: clean", "net: pgd@linf:8/255"]
    one, two = (robust_eval.load(runs[name])._loaded.entries for name in ("worse", "last"))
    clean = [next(e.record.rows["score"] for e in own if e.labels["family"] == "clean") for own in (one, two)]
    assert beside[0]["agreement"] == pytest.approx((clean[0] == clean[1]).mean())
    alone = json.loads(done("power", "--run", runs["last"], "--drop", "1%", "--format", "json"))["lines"]
    assert alone[0]["what"] == "net: clean, independent answers" and alone[0]["images"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "expected --n, --drop or --run"),
        (["--drop", "2"], "write 2% or 0.02"),
        (["--drop", "0"], "expected a drop above 0"),
        (["--drop", "60%"], "expected at most the accuracy of 0.5"),
        (["--n", "9", "--accuracy", "0.95", "--agreement", "0.5"], "expected at least 0.9"),
        (["--n", "9", "--baseline", "x"], "add --run RUN"),
        (["--n", "9", "--format", "jsn"], "did you mean 'json'?"),
        (["--n", "9", "--confidence", "95"], "write 0.95"),
    ],
)
def test_power_refuses_what_cannot_be(cli, arguments, line):
    done = cli("power", *arguments)
    assert (done.code, done.out) == (2, "") and line in done.err and done.err.count("\n") == 1
