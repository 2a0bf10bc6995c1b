"""Named budgets: which attacks, with which parameters."""

import pytest
import torch

import robust_eval
from robust_eval.config.budgets import BUDGETS, budget, settings
from robust_eval.config.method_tables import MethodTables
from robust_eval.config.problems import Problems
from robust_eval.errors import UnknownNameError
from robust_eval.registry import names


def plans(tables):
    parser = MethodTables(Problems("test"))
    made = [plan for i, table in enumerate(tables) for plan in parser.attacks(table, i)]
    assert not parser.problems.lines
    return made


@pytest.mark.parametrize("name", list(BUDGETS))
def test_every_attack_of_a_budget_can_be_built(name):
    assert {table["name"] for table in budget(name)} <= set(names("attack"))
    assert len(plans(budget(name))) == len(budget(name))


def test_the_default_is_the_six_attacks_and_auto_pgd():
    assert [table["name"] for table in budget("default")] == [
        "fgsm", "bim", "mim", "pgd", "cw", "deepfool", "apgd_ce",
    ]  # fmt: skip
    assert all(list(table) == ["name"] for table in budget("default"))


def test_quick_takes_few_steps_and_strong_ends_in_standard_auto_attack():
    steps = [getattr(plan.attack, "steps", 1) for plan in plans(budget("quick"))]
    assert max(steps) <= 10
    last = plans(budget("strong"))[-1].attack
    assert last.version == "standard" and (last.steps, last.queries) == (100, 5000)
    pgd = {
        plan.attack.steps * plan.attack.restarts
        for plan in plans(budget("strong"))
        if hasattr(plan.attack, "relative_step_size")
    }
    assert pgd == {500}


def test_strong_makes_the_cheap_attacks_first():
    costs = [sum(plan.attack.cost(classes=10)) for plan in plans(budget("strong"))]
    assert costs == sorted(costs) and costs[0] < costs[-1] / 100


def test_who_is_broken_by_one_of_the_strong_attacks_does_not_depend_on_their_order():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.Tanh(), torch.nn.Linear(12, 4)
    )
    x = torch.rand(12, 1, 4, 4)
    names = [table["name"] for table in budget("strong")]
    short = {"steps": 3, "restarts": 2, "binary_search_steps": 2, "queries": 10}
    fields = {
        name: {key: value for key, value in short.items() if hasattr(robust_eval.attack(name), key)}
        for name in names
    }

    def broken(order):
        found = robust_eval.evaluate(
            net, x, net(x).argmax(1), attacks=order, fields=fields, eps="0.02", checks="off"
        )
        return {name: found.examples(name).rows["success"].tolist() for name in order}

    first = broken(names)
    assert broken(names[::-1]) == first and any(0 < sum(rows) < 12 for rows in first.values())


def test_strong_has_a_baseline_that_the_others_must_beat():
    assert plans(budget("strong"))[0].attack.baseline


def test_a_budget_is_handed_out_as_a_copy():
    budget("quick")[1]["steps"] = 1
    assert budget("quick")[1]["steps"] == 10


def test_an_unknown_budget_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown budget 'strnog' \(did you mean 'strong'\?\)"):
        budget("strnog")


def test_settings_say_every_parameter_and_all_radii_of_an_attack_on_one_line():
    tables = [
        {"name": "pgd", "steps": 7, "eps": ["4/255", "8/255"]},
        {"name": "pgd", "norm": "l2", "eps": 0.5},
        {"name": "cw", "eps": [0.5, 1]},
    ]
    lines = settings(plans(tables))
    assert [line.threat for line in lines] == ["linf 4/255, 8/255", "l2 0.5", "smallest l2, at 0.5, 1"]
    assert "steps=7, relative_step_size=0.3571, restarts=1" in lines[0].params
    assert "binary_search_steps=9" in lines[2].params and "abort_early=true" in lines[2].params
