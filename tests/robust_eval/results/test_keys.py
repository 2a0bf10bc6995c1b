"""Keys that records on disks have: one of each family, as they were when the code was laid out anew.

A key that changes here orphans the records of every user. Where that is meant, a method's ``version`` is raised and the
changelog says so.
"""

import pytest
import torch
from torch import nn

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401
from robust_eval import attack, corruption
from robust_eval.checks.examination import Examination
from robust_eval.data import Examples
from robust_eval.models.recipe import Recipe
from robust_eval.models.source import OwnModel, RecipeModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell, Data


def examples(first=0):
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[0, 0, 0, 0] = first
    return Examples(images, torch.arange(4), 4)


DATA = Data("data", examples(), examples(9))
SUM = build("defense", "sum_augmentation", {"k": 2})
RECIPE = Recipe(
    architecture=build("architecture", "preact_resnet18", {}), regularizer=build("regularizer", "mixup", {})
)
TRAINED = RecipeModel("mixup", RECIPE, examples(9))


def of_source(*args, **fields):
    return Cell(OwnModel("net", nn.Identity(), "test", {"weights": "a"}, "0"), DATA, *args, **fields)


CELLS = {
    "clean": of_source(),
    "attack": of_source(attack("pgd", eps="8/255")),
    "minimal": of_source(attack("cw")),
    "auto": of_source(attack("auto_attack", norm="l2", eps=0.5)),
    "transfer": of_source(attack("pgd", eps="8/255"), SUM, "transfer"),
    "adaptive": of_source(attack("pgd", eps="8/255"), SUM, "adaptive"),
    "drawn": of_source(attack("pgd"), SUM, "adaptive", gradient_draws=8),
    "spatial": of_source(attack("rotation_translation")),
    "corruption": of_source(corruption("fog", severity=3)),
    "deformation": of_source(corruption("rotation")),
    "examination": of_source(Examination()),
    "analysis": of_source(build("analysis", "weight_norm", {})),
    "compared": of_source(build("analysis", "detection", {}), other=DATA),
    "trained": Cell(TRAINED, DATA),
}
KEYS = {
    "clean": "604308a4796b1e2e8e273e8d6d8ce4175eb036508ae360b23a380023b72696b2",
    "attack": "44ed55c2b60ef271f60b6ab55cc9e189600addcd6b0ef0d964ada7b123f89af5",
    "minimal": "7f1c2deaf19f3c17f68d1d5d113e2eca648bd7d5f8f134688a209e9cf8087275",
    "auto": "b51370f199d0700051a0fccd80042a5fbd887fe5e1d338cfb84948e0b7786b24",
    "transfer": "2b9c1dce95635d68c97253fc044c6bc8c8a96a56b72829d23a458c4fb70cc19c",
    "adaptive": "39e0146ad122c9ff66f455470aaa65980c4e2f6001daf421710c93fdc7227d96",
    "drawn": "ac012b141ea8671d223512b15cfdc9a16603f7951e8f50a5234be171f1a842ec",
    "spatial": "f65c9f794f7c589eab196f9d50140b602cd84180ec13b7b604b192bc492ffe4d",
    "corruption": "2b67ac12f528b86f23078181fb5ffd6ffb44cf65b08241e4a84b0bae65ecd542",
    "deformation": "63beb59d0b326a18e61eb9a47a1c8540a40d7c6985e8a844fd362cb378a51526",
    "examination": "c61588e4a9af5ac0860f99ddb66c85ce8710535066c038630c4e9bc383d153df",
    "analysis": "3a6fb71dd54334350338c17520b2f6641fcbdb6282364cd7f65488b5dd797365",
    "compared": "1153f157990f9d0942f1229ee646cc11fffcf327b8d51aa2d03bd8e9b27a868a",
    "trained": "bebeba0080647af19bc6ab58bbf4de4a0c7a4946ce2b75394ed3e1bb6a297658",
}


@pytest.mark.parametrize("name", CELLS)
def test_the_key_of_a_record_stays(name):
    assert CELLS[name].key == KEYS[name]


def test_the_key_of_a_trained_model_stays():
    assert TRAINED.key == "12f0230ad57147d641e254bea8aba57bae197837721d120ded30c319fe464a13"


def test_every_family_has_a_pinned_key():
    families = {cell.family for cell in CELLS.values()}
    assert families == {"clean", "attack", "corruption", "examination", "analysis"}
