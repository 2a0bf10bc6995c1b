"""What a command tells of itself, and what completes it."""

import os
import runpy
import shlex
import subprocess
import sys
import time
from importlib.metadata import version

import pytest
import typer

from robust_eval.cli import app
from robust_eval.cli._help import EXAMPLES

COMMANDS = [
    "run",
    "work",
    "status",
    "evaluate",
    "analyze",
    "doctor",
    "train",
    "corrupt",
    "report",
    "verify",
    "gate",
    "diff",
    "power",
    "list",
    "guide",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_its_help_with_examples_and_exit_codes(done, command):
    text = done(command, "-h")
    assert text == done(command, "--help")
    examples, codes = text.split("Examples:\n")[1].split("Exit codes:\n")
    assert all(f"  {line}\n" in examples for line in EXAMPLES[command])
    assert [line.split()[0] for line in codes.splitlines()][:1] == ["0"] and "2    wrong input" in codes


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_the_examples_are_commands(line):
    name, command, *arguments = shlex.split(line)
    assert name == "robust-eval"
    typer.main.get_command(app).commands[command].make_context(command, arguments)


@pytest.mark.parametrize("command", ["evaluate", "analyze", "doctor", "train"])
def test_what_has_to_be_given_is_marked(done, command):
    text = " ".join(done(command, "-h").split())
    data = text[text.index("--data <str>") :]
    assert "[required]" in data[: data.index(" --", 5)]


def test_the_version_is_told(done):
    assert done("--version") == f"robust-eval {version('robust-eval')}\n"


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["robust_eval", "--version"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("robust_eval", run_name="__main__")
    assert left.value.code == 0
    assert capsys.readouterr().out == f"robust-eval {version('robust-eval')}\n"


def test_help_loads_no_torch_and_answers_at_once():
    code = """
import sys
sys.argv = ["robust-eval", "--help"]
from robust_eval.cli import main
try:
    main()
finally:
    print("torch" in sys.modules)
"""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False"
    assert time.perf_counter() - started < 10  # less than a second on an idle machine


def test_a_shell_completes_commands_and_options():
    def completed(words, position):
        environment = {
            **os.environ,
            "_ROBUST_EVAL_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
        }
        code = "import sys; sys.argv[0] = 'robust-eval'; from robust_eval.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done
        return done.stdout.split()

    assert completed("robust-eval ev", 1) == ["evaluate"]
    assert "--dry-run" in completed("robust-eval run --d", 2)
