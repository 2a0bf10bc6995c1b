"""What is said where: results on stdout, everything else on stderr and in a log file."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from robust_eval.cli import _progress
from robust_eval.cli._progress import Display
from robust_eval.config.plan import plan

pytestmark = pytest.mark.usefixtures("undrawn")


def test_results_go_to_stdout_and_the_rest_to_stderr(cli, own):
    outcome = cli(*own, "--attacks", "fgsm")
    assert "accuracy in %" in outcome.out and "report: out/report/index.html" in outcome.out
    assert "[2/2]" not in outcome.out
    assert "2 cells: 2 measured, 0 had a record, 0 failed\nreport: " in outcome.out
    assert outcome.err.startswith("2 cells\n") and "[2/2] make" in outcome.err
    listed = cli(*own, "--attacks", "fgsm", "--dry-run")
    assert listed.out.count("done ") == 2 and not listed.err


def test_quiet_leaves_results_and_failures(cli, own):
    outcome = cli(*own, "--attacks", "fgsm", "--quiet")
    assert outcome.code == 0 and "accuracy in %" in outcome.out and not outcome.err
    failing = (
        "evaluate",
        "--arch",
        "net.py:Small",
        "--data",
        "data.npz",
        "--attacks",
        "fgsm",
        "--out",
        "bad",
    )
    outcome = cli(*failing, "--quiet")
    assert outcome.code == 1 and "failed: 3 cells" in outcome.err and "3 cells\n" not in outcome.err


def test_verbose_tells_short_costs_and_tracebacks(cli, own):
    assert "in all about" in cli(*own, "--attacks", "fgsm", "--verbose").err
    failing = (
        "evaluate",
        "--arch",
        "net.py:Small",
        "--data",
        "data.npz",
        "--attacks",
        "fgsm",
        "--out",
        "bad",
    )
    assert "Traceback" in cli(*failing, "--verbose").err
    assert "Traceback" not in cli(*failing).err


def test_a_log_file_is_added_to_with_the_time_of_each_line(done, own):
    done(*own, "--attacks", "none", "--log-file", "log.txt", "--quiet")
    done(*own, "--attacks", "fgsm", "--log-file", "log.txt")
    lines = Path("log.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*  ", line) for line in lines)
    assert sum("[1/1]" in line or "[2/2]" in line for line in lines) == 2
    assert sum("report: " in line for line in lines) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--quiet", "--verbose"], "expected one of them at most"),
        (["--log-file", "."], "expected a file"),
        (["--log-file", "no/such/log"], "there is no folder"),
    ],
)
def test_contradictions_and_files_that_cannot_be_written_are_one_line(cli, own, flags, words):
    outcome = cli(*own, *flags)
    assert outcome.code == 2 and words in outcome.err and outcome.err.count("\n") == 1
    assert not Path("out").exists()


@pytest.fixture
def display(monkeypatch):
    """Return a display that is no terminal, what it says, and a clock to set."""
    clock = [0.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: clock[0])
    said = io.StringIO()
    return Display(Console(file=said, width=200)), said, clock


@pytest.fixture
def cell(work):
    from robust_eval.config.experiment import parse

    tables = {"data": {"name": "data.npz"}, "model": [{"architecture": "net.py:make"}], "attack": ["pgd"]}
    return next(c for c in plan(parse(tables, where="test", folder=work)) if c.family == "attack")


def test_inside_a_cell_a_line_comes_every_half_minute(display, cell):
    shown, said, clock = display
    shown.start(3, 0)
    before = said.getvalue()
    shown.begin(cell)
    for clock[0] in (1.0, 29.0):
        shown.inside("attack, image passes", 100, 1000)
    assert said.getvalue() == before
    for clock[0] in (31.0, 40.0, 62.0):
        shown.inside("attack, image passes", 250, 1000)
    lines = said.getvalue().removeprefix(before).splitlines()
    assert len(lines) == 2 and "pgd linf 8/255: attack, image passes, 250 of at most 1,000" in lines[0]
    assert lines[0].startswith("[1/3] ") and "31 s so far, 93 s left at most" in lines[0]


def test_a_stage_without_a_bound_tells_no_time_left(display, cell):
    shown, said, clock = display
    shown.begin(cell)
    clock[0] = 200.0
    shown.inside("scoring", 0, None)
    assert "pgd linf 8/255: scoring, 3 min so far" in said.getvalue() and "left" not in said.getvalue()


def test_a_long_training_is_told_too(display):
    shown, said, clock = display
    shown.training("erm", 0.1, "epoch 1")
    clock[0] = 45.0
    shown.training("erm", 0.5, "epoch 5")
    assert said.getvalue() == "training erm: epoch 5, 50 % done\n"
