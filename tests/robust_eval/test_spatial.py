"""Turns and shifts are no ball: what is bounded by angles is kept apart from what has a radius."""

import dataclasses

import pytest
import torch
from torch import nn

from robust_eval import attack
from robust_eval.checks import violations
from robust_eval.config.budgets import settings
from robust_eval.config.method_tables import MethodTables
from robust_eval.config.problems import Problems
from robust_eval.data import Examples
from robust_eval.errors import ConfigError
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.workbench import Workbench
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import find, names
from robust_eval.results.cell import Cell, Data
from robust_eval.results.comparisons import across
from robust_eval.threat import Spatial

SMALL = {"angles": 3, "shifts": 3}


def measured(*methods):
    """Records of attacks on a linear model that is right on every image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        data = Data("data", Examples(images, network(images).argmax(1), 3))
    source = OwnModel("net", network, "test", {"weights": "net"}, "0" * 64)
    bench = Workbench(lambda model: Loaded(model.network, model.weights_sha256), precision="fp32")
    return [evaluate(Cell(source, data, method), bench) for method in methods]


def scored(record, score):
    return dataclasses.replace(record, rows=record.rows.assign(score=score))


def test_its_distance_is_for_information_and_its_radius_is_the_angle():
    threat, x = Spatial(degrees=30.0, translation=0.1), torch.zeros(2, 1, 2, 2)
    assert (threat.norm, threat.eps) == ("spatial", 30)
    other = x.clone()
    other[1, 0, 0, 0] = 0.75
    assert threat.distance(x, other).tolist() == [0, 0.75]


@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_a_turned_image_leaves_no_ball_but_may_leave_the_box(degrees):
    x = torch.zeros(3, 1, 2, 2)
    x_adv = x + torch.tensor([1.0, 1.5, torch.nan]).view(3, 1, 1, 1)
    assert violations(x, x_adv, Spatial(degrees, 0.1)).tolist() == [False, True, True]


def test_a_shift_alone_is_measured_without_a_violation():
    (record,) = measured(attack("rotation_translation", degrees=0, translation=0.3, **SMALL))
    assert record.labels["norm"] == "spatial" and record.labels["eps"] == 0
    assert record.summary[0].value < 1 and record.summary[0].eps == 0
    assert {check.name: check.verdict for check in record.checks}["constraint"] == "ok"


def test_no_record_of_angles_is_compared_with_another():
    turns = [attack("rotation_translation", degrees=degrees, **SMALL) for degrees in (5, 30)]
    few, many, bim, fgsm = measured(*turns, attack("bim"), attack("fgsm"))
    # it breaks everything at a small angle and nothing at a large one, and the white boxes break nothing
    records = [scored(few, 0.0), scored(many, 1.0), scored(bim, 1.0), scored(fgsm, 1.0)]
    found = across(records)
    assert not {few.key, many.key} & found.keys()
    assert {check.verdict for check in found[bim.key]} == {"ok"}
    assert "beats_baselines" not in {check.name for check in found[bim.key]}


def test_a_list_of_angles_is_one_attack_each():
    table = {"name": "rotation_translation", "degrees": [5, 15, 30]}
    plans = MethodTables(problems := Problems("test")).attacks(table, 0)
    assert not problems.lines and [plan.attack.degrees for plan in plans] == [5, 15, 30]
    said = settings(plans)
    assert [setting.threat for setting in said] == ["spatial ±5°", "spatial ±15°", "spatial ±30°"]
    assert all("translation=0.1" in setting.params for setting in said)


@pytest.mark.parametrize("name", names("attack"))
def test_no_attack_in_a_ball_takes_spatial_for_a_norm(name):
    cls = find("attack", name)
    if "norm" in {field.name for field in dataclasses.fields(cls)}:
        with pytest.raises(ConfigError, match="norm"):
            attack(name, norm="spatial")
    assert ("spatial" in cls.norms) == isinstance(attack(name).threat, Spatial)
