"""Names are data: none of them reaches a terminal, a page or a folder as anything else."""

from pathlib import Path

import pytest

NASTY = "a\x1b[31mb\x07\nc"


def texts(folder):
    return [
        path for path in Path(folder).rglob("*") if path.suffix in (".html", ".md", ".csv", ".tex", ".toml")
    ]


def test_a_name_with_control_characters_is_printable_wherever_it_is_shown(own, done):
    printed = done(*own, "--n", "4", "--attacks", "none", "--corruptions", "fog", "--name", NASTY)
    assert "\x1b[31m" not in printed and "a\\x1b[31mb\\x07\\x0ac" in printed
    assert len(texts("out")) > 4
    assert not any(mark in path.read_text() for path in texts("out") for mark in ("\x1b", "\x07"))


def test_an_error_prints_a_name_that_a_terminal_does_not_act_on(cli):
    outcome = cli("evaluate", NASTY, "--arch", "net.py:make", "--data", "data.npz")
    assert outcome.code == 2 and "\x1b" not in outcome.err and "\\x1b" in outcome.err


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", "n" * 300, NASTY])
@pytest.mark.parametrize("command", ["evaluate", "run"])
def test_the_folder_of_any_name_lies_in_runs(done, work, undrawn, name, command):
    if command == "evaluate":
        flags = ("--attacks", "none", "--checks", "off")
        done("evaluate", "--arch", "net.py:make", "--data", "data.npz", "--n", "4", *flags, "--name", name)
    else:
        escaped = name.encode("unicode_escape").decode().replace("\\x", "\\u00")
        model = "[[model]]\narchitecture = 'net.py:make'"
        Path("mine.toml").write_text(f'name = "{escaped}"\n[data]\nname = "data.npz"\nn = 4\n{model}\n')
        done("run", "mine.toml")
    [folder] = Path("runs").iterdir()
    assert (folder / "experiment.toml").is_file()
    made = {path.name for path in work.iterdir()}
    assert made <= {"net.py", "data.npz", "bare.npz", "runs", "mine.toml", "__pycache__", "cache"}


OWN = """
from pathlib import Path
Path("ran").write_text("")
"""
EXPERIMENT = """
name = "mine"
imports = ["own_code"]
[data]
name = "data.npz"
n = 4
[[model]]
architecture = "net.py:make"
"""


def test_imports_of_a_run_folder_are_run_only_when_they_are_allowed(cli, work, undrawn, monkeypatch):
    Path("own_code.py").write_text(OWN)
    Path("mine.toml").write_text(EXPERIMENT)
    monkeypatch.syspath_prepend(work)
    assert cli("run", "mine.toml").code == 0 and Path("ran").exists()
    Path("ran").unlink()
    monkeypatch.delitem(__import__("sys").modules, "own_code")
    for given in (
        ["runs/mine"],
        ["runs/mine/experiment.toml"],
        ["--out", "runs/mine"],
        ["runs/mine", "--dry-run"],
    ):
        outcome = cli("run", *given)
        assert outcome.code == 2 and "'own_code'" in outcome.err and "give --allow-imports" in outcome.err
        assert not Path("ran").exists()
    assert cli("run", "runs/mine", "--allow-imports").code == 0 and Path("ran").exists()
    assert cli("run", "mine.toml").code == 0


FACTORY = """
from pathlib import Path
Path("ran").write_text("")
from net import make
"""
OTHERS = """
[data]
name = "data.npz"
n = 4
[[model]]
architecture = "net.py:make"
[[attack]]
name = "transfer:fgsm"
architecture = "theirs.py:make"
"""


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("where", ["model", "surrogate"])
def test_factories_of_a_run_folder_are_run_only_when_they_are_allowed(cli, work, undrawn, where, records):
    Path("theirs.py").write_text(FACTORY)
    folder = Path("foreign")
    (folder / "records").mkdir(parents=True) if records else folder.mkdir()
    text = EXPERIMENT.replace('imports = ["own_code"]', "").replace("net.py", "theirs.py")
    text = f'folder = "{work}"\n' + (text if where == "model" else OTHERS)
    (folder / "experiment.toml").write_text(text)
    for given in (["foreign"], ["--out", "foreign"], ["foreign", "--dry-run"]):
        outcome = cli("run", *given)
        assert outcome.code == 2 and "theirs.py:make" in outcome.err and "give --allow-imports" in outcome.err
        assert not Path("ran").exists()
    assert cli("run", "foreign", "--dry-run", "--allow-imports").code == 0 and Path("ran").exists()
    Path("mine.toml").write_text(text)
    assert cli("run", "mine.toml", "--dry-run").code == 0
