"""Methods of a user's own: imported by an option or found by an entry point, and told in one line what they lack."""

import zlib
from pathlib import Path
from typing import get_args

import pytest

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401 - registers the methods
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
def forgotten(work, monkeypatch):
    """A registry that forgets afterwards what modules of this folder register."""
    monkeypatch.syspath_prepend(work)
    for kind in get_args(registry.Kind):
        registry.names(kind)  # what the packages register stays
    before = dict(registry._METHODS)
    yield
    for key in registry._METHODS.keys() - before.keys():
        del registry._METHODS[key]


@pytest.fixture
def plugin(forgotten, request):
    """Return the name of a module with methods."""
    name = f"plug_{zlib.crc32(request.node.name.encode())}"
    Path(f"{name}.py").write_text(MODULE)
    return name


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


TRAINED = """
from dataclasses import dataclass
from robust_eval import register
from robust_eval.methods import Architecture, Regularizer

@register("regularizer", "own_raising")
@dataclass(frozen=True, kw_only=True)
class Raises(Regularizer):
    def loss(self, *given, **named):
        raise ValueError("my own\\nmistake")
"""
HIDING = """

@register("architecture", "own_hiding")
@dataclass(frozen=True, kw_only=True)
class Hides(Architecture):
    network: int = 4
    def build(self, *, channels, classes):
        raise NotImplementedError
"""


def test_a_loss_that_raises_is_one_line_with_its_place(cli, forgotten, work):
    (work / "own_loss.py").write_text(TRAINED)
    asked = ("train", "--regularizer", "own_raising", "--arch", "small_cnn", "--data", "digits")
    outcome = cli(*asked, "--import", "own_loss", "--out", "out")
    line = 1 + TRAINED.splitlines().index('        raise ValueError("my own\\nmistake")')
    assert outcome.code == 1
    told = outcome.err.splitlines()[-1]
    assert told.startswith("error: training stopped: ValueError: my own (") and told.endswith(
        f"own_loss.py:{line})"
    )


def test_a_field_that_hides_a_method_is_one_line(cli, forgotten, work):
    (work / "own_field.py").write_text(TRAINED.replace("own_raising", "own_other") + HIDING)
    outcome = cli("list", "architectures", "--import", "own_field")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert (
        "architecture 'own_hiding': its field 'network' hides the method Architecture.network" in outcome.err
    )
