"""Methods of a user's own: imported by an option or found by an entry point, and told in one line what they lack."""

import zlib
from pathlib import Path

import pytest

from robust_eval import registry
from robust_eval.results.store import Store

OWN = ("evaluate", "--arch", "net.py:make", "--data", "data.npz", "--checks", "off")
MODULE = """
from dataclasses import dataclass
from robust_eval import register
from robust_eval.methods import Attack, Corruption, Defense
from robust_eval.threat import Threat

class Plain(Attack):
    @property
    def threat(self):
        return Threat("linf", 0.1)

@register("attack", "own_lacking")
@dataclass(frozen=True, kw_only=True)
class Lacking(Plain):
    pass

@register("attack", "own_bare")
@dataclass(frozen=True, kw_only=True)
class Bare:
    eps: float = 0.1

@register("attack", "own_tensor")
@dataclass(frozen=True, kw_only=True)
class GivesTensor(Plain):
    def run(self, model, x, y, *, rng):
        return x

@register("corruption", "own_list")
@dataclass(frozen=True, kw_only=True)
class GivesList(Corruption):
    group = "noise"
    def apply(self, x, *, rng):
        return [x]

@register("corruption", "own_pair")
@dataclass(frozen=True, kw_only=True)
class GivesPair(Corruption):
    group = "noise"
    def apply(self, x, *, rng):
        return x[:1, :, :4]

@register("defense", "own_none")
@dataclass(frozen=True, kw_only=True)
class GivesNothing(Defense):
    def wrap(self, network, pool=None):
        return None

@register("corruption", "own_good")
@dataclass(frozen=True, kw_only=True)
class Good(Corruption):
    group = "noise"
    def apply(self, x, *, rng):
        return 1 - x
"""


@pytest.fixture
def plugin(work, request, monkeypatch):
    """Return the name of a module with methods; the registry forgets them afterwards."""
    name = f"plug_{zlib.crc32(request.node.name.encode())}"
    Path(f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(work)
    before = dict(registry._METHODS)
    yield name
    for key in registry._METHODS.keys() - before.keys():
        del registry._METHODS[key]


def test_a_module_is_imported_before_names_are_looked_up_and_kept_with_the_run(done, plugin):
    done(*OWN, "--import", plugin, "--attacks", "none", "--corruptions", "own_good", "--out", "out")
    found = {record.labels["perturbation"] for record in Store(Path("out")).records()}
    assert found == {"none", "own_good"}
    assert f'imports = [\n    "{plugin}",\n]' in Path("out/experiment.toml").read_text()
    assert "own_good(" in done("list", "corruption", "--import", plugin)


def test_an_entry_point_registers_what_an_installed_package_brings(done, plugin, work):
    folder = work / "plug-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: plug\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(f"[robust_eval.plugins]\nown = {plugin}\n")
    registry._load_plugins.cache_clear()
    try:
        assert "own_good(" in done("list", "corruption")
    finally:
        registry._load_plugins.cache_clear()


def test_an_entry_point_that_fails_is_one_line(cli, work, monkeypatch):
    monkeypatch.syspath_prepend(work)
    folder = work / "bad-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: bad\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[robust_eval.plugins]\nbad = no_such_module\n")
    registry._load_plugins.cache_clear()
    try:
        outcome = cli("list", "corruption")
    finally:
        registry._load_plugins.cache_clear()
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "plug-in bad (no_such_module): cannot be imported (ModuleNotFoundError" in outcome.err


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--attacks", "own_lacking", "attack 'own_lacking': expected a class with the method run, got"),
        ("--attacks", "own_bare", "expected a subclass of robust_eval.methods.Attack"),
    ],
)
def test_what_a_class_lacks_is_one_line_before_anything_runs(cli, plugin, option, name, words):
    outcome = cli(*OWN, "--import", plugin, option, name, "--out", "out")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and words in outcome.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--attacks", "own_tensor", "GivesTensor.run: expected an AttackResult, got Tensor"),
        ("--corruptions", "own_list", "GivesList.apply: expected a tensor of [12, 1, 8, 8], got list"),
        (
            "--corruptions",
            "own_pair",
            "GivesPair.apply: expected a tensor of [12, 1, 8, 8], got [1, 1, 4, 8]",
        ),
        ("--defenses", "own_none", "GivesNothing.wrap: expected a module, got NoneType"),
    ],
)
def test_what_a_method_wrongly_returns_is_one_line(cli, plugin, option, name, words):
    attacks = () if option == "--attacks" else ("--attacks", "none")
    outcome = cli(*OWN, "--import", plugin, *attacks, option, name, "--out", "out")
    assert outcome.code == 1 and words in outcome.out + outcome.err


def test_a_module_that_cannot_be_imported_is_one_line(cli):
    outcome = cli(*OWN, "--import", "no_such_module")
    assert outcome.code == 2 and "'no_such_module' cannot be imported" in outcome.err
