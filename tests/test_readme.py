"""The README is true and short: its examples run, and its map is that of the code."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
PLACEHOLDERS = ("NAME", "my_", "my.")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def section(title: str) -> str:
    return README[README.index(f"## {title}") :].split("\n## ")[0]


def test_it_is_short():
    assert len(README.splitlines()) <= 250
    assert len(CONTRIBUTING.splitlines()) <= 80


def test_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for source in blocks("python"):
        exec(compile(source, "README.md", "exec", dont_inherit=True), namespace)
    assert namespace["x_adv"].shape == namespace["x"].shape
    assert not namespace["x_fog"].equal(namespace["x"])
    assert len(namespace["frame"]) == 4 and namespace["page"].exists()


def test_there_are_exactly_two_commands_to_start_with():
    start = README[README.index("## Install") : README.index("## Evaluate")]
    assert re.findall(r"```sh\n(.*?)\n```", start, flags=re.S) == [
        "pip install . && robust-eval run",
        'pip install -e ".[test]" && pytest',
    ]


def test_the_first_table_stands_between_its_marks():
    assert re.search(
        r"<!-- quickstart -->\n```text\n.*?^accuracy in %, n = \d+.*?\n```\n<!-- /quickstart -->",
        README,
        re.S | re.M,
    )


def test_rooms_and_files_of_the_picture_exist():
    picture = re.search(r"```text\n(experiment file.*?)```", section("How the code is laid out"), re.S)[1]
    assert len(picture.splitlines()) == 10
    rooms = re.findall(r"(?<![\w*/.])(\w+)/(\w+\.py)?", picture)
    assert len(rooms) > 10
    inside = {"sections": "reports", "formats": "reports"}
    for room, file in rooms:
        places = [ROOT / room, ROOT / "robust_eval" / room, ROOT / inside.get(room, room) / room]
        assert any((place / file).exists() for place in places), (room, file)


def test_its_layers_are_those_that_are_held():
    held = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in held if contract["type"] == "layers")
    drawn = re.search(r"```text\n(cli · .*?)```", section("How the code is laid out"), re.S)[1]
    assert [set(line.split(" · ")) for line in drawn.splitlines()] == [
        {name.strip().removeprefix("robust_eval.") for name in re.split(r"[:|]", line)} for line in layers
    ]


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_files_and_folders_that_are_named_exist(text):
    named = re.findall(
        r"(?<![\w./~-])((?:robust_eval|defenses|trainers|reports|tests|\.github)/[\w./-]*)", text
    )
    for path in named:
        whole = path.rstrip(".")
        assert any(part in path for part in PLACEHOLDERS) or (ROOT / whole).exists(), path
