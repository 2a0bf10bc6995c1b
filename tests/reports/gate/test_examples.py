"""The guide's examples of gate and diff run as they stand: a small project goes red, and green where all is kept."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from robust_eval.cli import main
from robust_eval.cli.guide import pages

READY = ("gate", "diff", "power", "report")
"""Commands that measure nothing, and so run on records made by hand."""


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", pages()[page].read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(page):
    """The commands of the shell blocks and of the builds on a page of the guide, as their words."""
    lines = "\n".join(blocks(page, "sh")).splitlines()
    for build in blocks(page, "yaml"):
        lines += [re.sub(r"^\s*- (run: )?", "", line) for line in build.splitlines()]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["robust-eval"] and words[1] in READY:
            yield words


def run(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", [word.replace("$GITHUB_STEP_SUMMARY", "summary.md") for word in words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """Make the runs that the guide speaks of: those of a release, and new ones that are right on so many images."""
    monkeypatch.chdir(tmp_path)
    (toml,) = blocks("gate", "toml")
    Path("gate.toml").write_text(toml)

    def runs(right):
        for name, k, identity in (("last", 450, "old"), ("mine", right, "new")):
            kept = {"model": "resnet18", "identity": identity, "n": 600}
            records = (
                made.clean(right=570, **kept),
                made.record(right=k, **kept),
                made.record(perturbation="fgsm", right=k + 30, **kept),
                *(made.corrupted(name, right=k, **kept) for name in ("fog", "snow")),
            )
            made.save(tmp_path / "runs" / name, *records)
            made.save(tmp_path / {"last": "last", "mine": "new"}[name], *records)

    return runs


def test_the_guide_has_commands_of_both_kinds():
    assert len(list(commands("gate"))) >= 8 and len(list(commands("diff"))) >= 3


@pytest.mark.parametrize(("right", "code"), [(450, 0), (240, 1)])
def test_every_gate_of_the_guide_is_green_where_nothing_is_lost_and_red_where_half_is(
    project, monkeypatch, capsys, right, code
):
    project(right)
    for page in ("gate", "diff"):
        for words in commands(page):
            found = run(monkeypatch, words)
            assert found == (code if words[1] == "gate" else 0), (words, *capsys.readouterr())
    for name in ("gate.xml", "gate.sarif", "gate.md", "summary.md", "diff.html"):
        assert Path(name).stat().st_size > 200, name


def test_from_two_checkpoints_to_a_red_build_takes_less_than_ten_lines():
    section = pages()["gate"].read_text(encoding="utf-8").split("## From two checkpoints to a red build")[1]
    assert len(re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)[0].splitlines()) < 10
