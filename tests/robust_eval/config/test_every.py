import dataclasses

import numpy as np
import pytest

import defenses  # noqa: F401
import trainers  # noqa: F401
from robust_eval.config.experiment import parse
from robust_eval.errors import ConfigError
from robust_eval.registry import describe, find, names


@pytest.fixture
def parsed(tmp_path):
    images = np.random.default_rng(0).random((12, 1, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(12) % 3)

    def build(**tables):
        train = [{"regularizer": "erm", "architecture": {"name": "small_cnn", "width": 2}}]
        given = {"data": {"name": "data.npz"}, "train": train, **tables}
        return parse(given, where="test", folder=tmp_path)

    return build


def test_all_is_every_corruption_with_the_severities_that_it_takes(parsed):
    found = parsed(corruption=[{"name": "all", "severity": [1, 5]}]).corruptions
    severe = [
        n
        for n in names("corruption")
        if "severity" in {f.name for f in dataclasses.fields(find("corruption", n))}
    ]
    others = set(names("corruption")) - set(severe)
    got = [(describe(c).name, getattr(c, "severity", None)) for c in found]
    assert sorted(got, key=str) == sorted(
        [*((n, s) for n in severe for s in (1, 5)), *((n, None) for n in others)], key=str
    )


def test_all_is_every_attack_and_every_defense(parsed):
    found = parsed(attack=["all"], defense=["all"])
    assert {describe(plan.attack).name for plan in found.attacks} == set(names("attack"))
    assert {describe(defense).name for defense in found.defenses} == set(names("defense"))


def test_a_radius_goes_to_the_attacks_of_its_norm(parsed):
    found = parsed(attack=[{"name": "all", "norm": "l2", "eps": 0.7, "access": "transfer"}]).attacks
    assert {plan.attack.threat.norm for plan in found} == {"l2"}
    assert {plan.access for plan in found} == {("transfer",)}
    assert all(plan.attack.threat.eps == 0.7 or plan.score_at == (0.7,) for plan in found)
    linf = parsed(attack=[{"name": "all", "eps": 0.01}]).attacks
    bounded = [plan.attack.threat for plan in linf if not plan.attack.own_units]
    assert {threat.eps for threat in bounded if threat.norm == "linf"} <= {0.01, None}
    (cw,) = [plan for plan in linf if describe(plan.attack).name == "cw"]
    assert cw.score_at == (0.5,)


def test_a_method_with_a_table_of_its_own_is_not_repeated(parsed):
    found = parsed(attack=["all", {"name": "pgd", "steps": 3}]).attacks
    assert [plan.attack.steps for plan in found if describe(plan.attack).name == "pgd"] == [3]


def test_a_field_that_none_has_is_one_line(parsed):
    with pytest.raises(ConfigError, match="attack 'all': unknown field 'stepz'") as error:
        parsed(attack=[{"name": "all", "stepz": 3}])
    assert len(error.value.problems) == 1


def test_the_tables_of_a_run_read_back(parsed, tmp_path):
    first = parsed(attack=[{"name": "all", "eps": 0.01}])
    again = parse(first.tables(), where="again", folder=tmp_path)
    assert again.attacks == first.attacks
