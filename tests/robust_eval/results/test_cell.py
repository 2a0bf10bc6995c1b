"""A cell's key is a hash of what decides its numbers, and of nothing else."""

import importlib
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401
from robust_eval import attack, corruption, registry
from robust_eval.data import Examples
from robust_eval.identity import content_key, file_sha256
from robust_eval.models.source import OwnModel
from robust_eval.registry import build, describe, described
from robust_eval.results import cell
from robust_eval.results.cell import Cell, Data


def source(name="net", weights="a"):
    return OwnModel(name, nn.Identity(), "test", {"weights": weights}, "0")


def examples(first=0):
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[0, 0, 0, 0] = first
    return Examples(images, torch.arange(4), 4)


POOL = examples(9)
DATA = Data("data", examples(), POOL)
SUM = build("defense", "sum_augmentation", {"k": 2})
DEFENDED = Cell(source(), DATA, attack("pgd"), defense=SUM, access="transfer")


def test_numbers_written_in_another_way_give_the_same_key():
    keys = {
        Cell(source(), DATA, attack("pgd", eps=eps, steps=steps)).key
        for eps in ("8/255", 8 / 255, " 8 / 255")
        for steps in (10, 10.0)
    }
    assert len(keys) == 1
    one = {build("regularizer", "mixup", {"alpha": alpha}) for alpha in (1, 1.0)}
    assert len({content_key(describe(method)._asdict()) for method in one}) == 1


def test_names_and_radii_to_score_at_are_not_identity():
    renamed = replace(
        DEFENDED, model=source("other"), data=Data("renamed", examples(), POOL), score_at=(0.5,)
    )
    assert renamed.key == DEFENDED.key
    assert renamed.labels != DEFENDED.labels


@pytest.mark.parametrize(
    "changed",
    [
        {"model": source(weights="b")},
        {"data": Data("data", examples(1), POOL)},
        {"data": Data("data", examples()[:3], POOL)},
        {"data": Data("data", Examples(examples().images, torch.tensor([0, 1, 3, 2]), 4), POOL)},
        {"data": Data("data", examples(), examples(8))},
        {"perturbation": attack("pgd", steps=41)},
        {"perturbation": attack("pgd", eps="4/255")},
        {"perturbation": attack("bim")},
        {"perturbation": corruption("fog")},
        {"perturbation": None},
        {"defense": build("defense", "sum_augmentation", {"k": 3})},
        {"defense": None},
        {"access": "adaptive"},
        {"seed": 1},
        {"draws": 11},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_decides_the_numbers_is_identity(changed):
    assert replace(DEFENDED, **changed).key != DEFENDED.key


def test_draws_and_pool_do_not_matter_without_a_defense():
    plain = Cell(source(), DATA, corruption("fog", severity=2))
    assert replace(plain, draws=99, data=Data("data", examples(), examples(8))).key == plain.key
    assert replace(plain, perturbation=corruption("fog", severity=3)).key != plain.key


def test_the_version_of_a_method_and_of_the_schema_are_identity(monkeypatch):
    key = Cell(source(), DATA, attack("pgd")).key
    monkeypatch.setattr(cell, "described", lambda method: {**described(method), "version": 99})
    assert Cell(source(), DATA, attack("pgd")).key != key
    monkeypatch.undo()
    monkeypatch.setattr(cell, "SCHEMA", 99)
    assert Cell(source(), DATA, attack("pgd")).key != key


def test_the_key_of_plain_data_does_not_depend_on_the_order_of_its_fields():
    assert content_key({"a": 1, "b": {"c": [1.5], "d": None}}) == content_key(
        {"b": {"d": None, "c": [1.5]}, "a": 1}
    )
    with pytest.raises(ValueError, match="JSON"):
        content_key({"a": float("nan")})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (DEFENDED, "net · sum_augmentation (transfer) · pgd linf 8/255"),
        (Cell(source(), DATA, defense=SUM), "net · sum_augmentation · clean"),
        (Cell(source(), DATA, attack("pgd", norm="l2", eps=0.5)), "net · pgd l2 0.5"),
        (Cell(source(), DATA, attack("cw")), "net · cw"),
        (Cell(source(), DATA, corruption("fog")), "net · fog severity 3"),
    ],
)
def test_a_cell_says_what_it_measures(given, text):
    assert str(given) == text


OWN_METHOD = """
from dataclasses import dataclass
from robust_eval import Corruption, register

@register("corruption", "{name}")
@dataclass(frozen=True, kw_only=True)
class Mine(Corruption):
    amount: float = 1.0

    def apply(self, x, *, rng):
        return x
"""


def test_a_method_of_ones_own_is_known_by_its_file_too(tmp_path, monkeypatch):
    registry.names("corruption")  # what the package registers must outlive this test, the user's must not
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_first", "own_second"):
        (tmp_path / f"{name}.py").write_text(OWN_METHOD.format(name=name))
        importlib.import_module(name)
        spec = Cell(source(), DATA, build("corruption", name, {})).spec["perturbation"]
        assert spec["code"] == {f"corruption:{name}": file_sha256(tmp_path / f"{name}.py")}
        del sys.modules[name]


@pytest.mark.parametrize("method", [attack("pgd"), corruption("fog"), SUM, build("regularizer", "mixup", {})])
def test_a_method_that_comes_with_the_package_is_known_by_its_version(method):
    assert described(method) == describe(method)._asdict()
