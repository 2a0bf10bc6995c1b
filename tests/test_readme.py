"""The README is true: its examples run, and it names every command and method."""

import re
import tomllib
from pathlib import Path

import pytest

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401
from robust_eval import registry
from robust_eval.cli import app
from robust_eval.config.experiment import parse

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_python_examples_run(monkeypatch):
    (
        registry.names("attack"),
        registry.names("corruption"),
    )  # what the packages register must outlive this test
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    namespace = {"__name__": "readme"}
    for source in blocks("python"):
        exec(compile(source, "README.md", "exec", dont_inherit=True), namespace)
    assert namespace["x_adv"].shape == namespace["x"].shape
    assert not namespace["x_fog"].equal(namespace["x"])
    made = registry.build("attack", "random_sign", {"eps": "1/255"})
    x_adv = made(
        namespace["Classifier"](namespace["net"]), namespace["x"], namespace["y"], rng=namespace["Rng"](0)
    )
    assert (x_adv - namespace["x"]).abs().max() <= 1 / 255 + 1e-6


def test_the_experiment_file_is_valid():
    (text,) = blocks("toml")
    experiment = parse(tomllib.loads(text), where="README", folder=Path.cwd())
    assert len(experiment.attacks) == 3  # two radii of PGD, one DeepFool scored at two
    assert experiment.attacks[-1].score_at == (0.25, 0.5)


def test_there_are_exactly_two_commands_to_start_with():
    start = README[README.index("## Install") : README.index("## Evaluate")]
    assert re.findall(r"```sh\n(.*?)\n```", start, flags=re.S) == [
        "pip install . && robust-eval run",
        'pip install -e ".[test]" && pytest',
    ]


@pytest.mark.parametrize("kind", ["attack", "corruption", "defense", "regularizer"])
def test_every_method_is_named_and_has_a_card(kind):
    table = README[README.index("## What there is") : README.index("## How fast")]
    rows = [line for line in table.splitlines() if re.match(rf"\| {kind}\b", line)]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(registry.names(kind))
    assert all(registry.card(kind, name) for name in registry.names(kind))


def test_every_command_is_named_and_has_help():
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"robust-eval {name}" in README
        assert command.callback.__doc__
