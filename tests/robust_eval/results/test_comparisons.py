"""Records side by side, with rows whose verdict is known: silent where an evaluation is honest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robust_eval import registry
from robust_eval.checks.card import cards, turns
from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.methods import Attack
from robust_eval.registry import find, names, register
from robust_eval.results.comparisons import across
from robust_eval.results.concerns import concerns, examines
from robust_eval.results.record import Record
from robust_eval.threat import Threat

N = 200


def attack(
    name: str = "pgd",
    *,
    breaks: Sequence[int] = (),
    eps: float | None = 8 / 255,
    norm: str = "linf",
    access: str = "none",
    score: float = 0.0,
    radii: Sequence[float] = (),
    distance: float = 0.1,
    model: str = "weights",
    seed: int = 0,
    **params: Any,
) -> Record:
    """A record of an attack that breaks these of 200 images, all of which are right when clean."""
    params = {"norm": norm, **({"eps": eps} if eps is not None else {}), **params}
    defense = None if access == "none" else {"kind": "defense", "name": "mixing", "params": {}, "version": 1}
    spec = {
        "model": {"sha256": model},
        "data": {"fingerprint": "f", "n": N},
        "perturbation": {"kind": "attack", "name": name, "params": params, "version": 1},
        "defense": defense,
        "pool": None,
        "access": access,
        "seed": seed,
        "draws": None,
    }
    scores = np.ones(N)
    scores[list(breaks)] = score
    rows = pd.DataFrame(
        {"index": range(N), "clean_score": 1.0, "score": scores, "attacked": True, "distance": distance}
    )
    labels = {
        "model": "net",
        "defense": "none" if defense is None else "mixing",
        "access": access,
        "family": "attack",
        "perturbation": name,
        "params": params,
        "norm": norm,
        "eps": eps,
    }
    summary = tuple(Measurement("accuracy", None, None, None, N, radius) for radius in radii)
    return Record(content_key(spec), spec, labels, summary, (), {}, rows)


def examination(
    broken: Sequence[int],
    *,
    of: Record | None = None,
    n: int = 128,
    norm: str = "linf",
    at: float = 8 / 255,
    **ball,
) -> Record:
    """A record of an examination, by default of `attack()`'s model, whose probes broke these of its first images."""
    spec = {**(of or attack()).spec, "perturbation": {"kind": "examination", "name": "examination"}}
    broken_at = np.full(n, np.nan)
    broken_at[list(broken)] = at
    labels = {"family": "examination", "params": {"level": "full", "norm": norm, "eps": 8 / 255, **ball}}
    rows = pd.DataFrame({"index": range(n), "broken_at": broken_at})
    return Record(content_key(spec), spec, labels, (), (), {}, rows)


def verdict(name: str, record: Record, *others: Record, looks: Sequence[Record] = ()) -> Check | None:
    found = [check for check in across([record, *others], looks).get(record.key, []) if check.name == name]
    assert len(found) < 2
    return found[0] if found else None


def raised(*records: Record) -> set[tuple[str, str, str]]:
    """Access, attack and check wherever a comparison warns or fails."""
    by_key = {record.key: record for record in records}
    return {
        (by_key[key].labels["access"], by_key[key].labels["perturbation"], check.name)
        for key, checks in across(records).items()
        for check in checks
        if check.verdict != "ok" and check.name not in ("strong_enough", "finds_most")
    }


def register_trial(monkeypatch, name: str, **facts: bool) -> None:
    """Register an attack of one's own for the length of a test."""

    class Trial(Attack):
        @property
        def threat(self):
            return Threat("linf", 0.1)

        def run(self, model, x, y, *, rng):
            raise NotImplementedError

    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    made = type(name, (Trial,), {**facts, "__module__": __name__})
    register("attack", name)(dataclass(frozen=True, kw_only=True)(made))


def about(what: str) -> set[str]:
    """The names of the checks that are about this."""
    return {card.name for card in cards() if card.about == what}


def test_an_attack_that_breaks_fewer_images_at_a_larger_radius_fails_there():
    small, large = attack(breaks=range(60), eps=4 / 255), attack(breaks=range(40), eps=8 / 255)
    check = verdict("monotone_in_eps", large, small)
    assert check is not None and (check.verdict, check.figure) == ("fail", pytest.approx(20 / N))
    assert verdict("monotone_in_eps", small, large) is None


def test_seven_images_on_one_side_are_clear_and_six_are_not():
    # 2^-7 < 1 % < 2^-6
    for more, expected in ((6, "ok"), (7, "fail")):
        small, large = attack(breaks=range(50 + more), eps=4 / 255), attack(breaks=range(50), eps=8 / 255)
        check = verdict("monotone_in_eps", large, small)
        assert check is not None and check.verdict == expected


def test_a_swap_of_as_many_images_is_no_reason_to_doubt():
    small, large = attack(breaks=range(60), eps=4 / 255), attack(breaks=range(30, 90), eps=8 / 255)
    check = verdict("monotone_in_eps", large, small)
    assert check is not None and (check.verdict, check.figure) == ("ok", 0)


def test_other_parameters_are_another_attack():
    small, large = attack(breaks=range(60), eps=4 / 255, steps=40), attack(eps=8 / 255, steps=10)
    assert verdict("monotone_in_eps", large, small) is None


@pytest.mark.parametrize("name", ["fgsm", "foolbox:LinfFastGradientAttack", "transfer:pgd", "noise"])
def test_what_need_not_grow_with_the_radius_is_left_alone(name):
    small, large = attack(name, breaks=range(60), eps=4 / 255), attack(name, eps=8 / 255)
    assert not raised(small, large)


def test_many_steps_must_not_lose_to_one():
    fgsm, pgd = attack("fgsm", breaks=range(50)), attack("pgd", breaks=range(10))
    check = verdict("beats_single_step", pgd, fgsm)
    assert check is not None and (check.verdict, check.figure) == ("fail", pytest.approx(40 / N))
    assert verdict("beats_single_step", fgsm, pgd) is None
    for other in (attack("fgsm", breaks=range(50), norm="l2"), attack("fgsm", breaks=range(50), eps=4 / 255)):
        assert verdict("beats_single_step", pgd, other) is None


def test_every_walk_within_a_radius_is_held_against_one_step_unless_it_says_that_it_need_not(monkeypatch):
    fgsm = attack("fgsm", breaks=range(50))
    asked = {name for name in names("attack") if verdict("beats_single_step", attack(name), fgsm) is not None}
    assert {"pgd", "auto_attack"} <= asked
    for name in set(names("attack")) - asked:
        method = find("attack", name)
        one_step_or_nearest = method.single_step or method.minimal_norm or not method.beats_single_step
        assert one_step_or_nearest or not method.gradients

    register_trial(monkeypatch, "trial_walk")
    check = verdict("beats_single_step", attack("trial_walk"), fgsm)
    assert check is not None and check.verdict == "fail"


def test_a_method_of_one_step_says_so_itself(monkeypatch):
    register_trial(monkeypatch, "trial_step", single_step=True)
    small, large = (attack("trial_step", breaks=range(n), eps=eps) for n, eps in ((60, 0.01), (10, 0.02)))
    assert verdict("monotone_in_eps", large, small) is None
    assert verdict("beats_single_step", small, attack("fgsm", eps=0.01)) is None
    check = verdict("strong_enough", small)
    assert check is not None and check.verdict == "warn"


def test_what_is_made_without_asking_the_model_says_so_itself(monkeypatch):
    register_trial(monkeypatch, "trial_points", asks_model=False)
    points = attack("trial_points", breaks=range(10), draws=5000)
    assert raised(points, attack()) == {("none", "pgd", "beats_baselines")}
    assert verdict("monotone_in_eps", points, attack("trial_points", breaks=range(60), eps=0.01)) is None


def test_a_targeted_walk_may_break_fewer_images_than_one_free_step():
    fgsm, pgd = attack("fgsm", breaks=range(50)), attack("pgd", breaks=range(10), target="next")
    assert not raised(fgsm, pgd)


def test_by_transfer_one_step_may_do_more_than_many():
    fgsm = attack("fgsm", breaks=range(50), access="transfer")
    assert "beats_single_step" not in {name for *_, name in raised(fgsm, attack(access="transfer"))}


@pytest.mark.parametrize("baseline", ["noise", "square", "transfer:pgd"])
def test_what_only_a_baseline_breaks_counts_against_every_white_box(baseline):
    pgd, fgsm = attack(breaks=range(50)), attack("fgsm", breaks=range(40))
    black = attack(baseline, breaks=range(40, 60))
    assert raised(pgd, fgsm, black) == {
        ("none", "pgd", "beats_baselines"),
        ("none", "fgsm", "beats_baselines"),
    }
    check = verdict("beats_baselines", fgsm, pgd, black)
    # 10 of those that fgsm leaves are broken by pgd
    assert check is not None and check.figure == pytest.approx(10 / N) and baseline in check.advice


def test_the_white_box_may_miss_a_few_that_a_baseline_finds():
    # half a point of 200 images is one: four are within its 1 % tail, five are not
    for alone, expected in ((4, "ok"), (5, "warn")):
        check = verdict(
            "beats_baselines",
            attack(breaks=range(50)),
            attack("square", breaks=range(50 - alone, 50 + alone)),
        )
        assert check is not None and check.verdict == expected


def test_a_minimal_norm_attack_is_white_box_within_its_distances():
    square = attack("square", breaks=range(50))
    near = attack("deepfool", breaks=range(50), eps=None, radii=[8 / 255], distance=0.01)
    far = attack("deepfool", breaks=range(50), eps=None, radii=[8 / 255], distance=0.9)
    assert not raised(square, near)
    assert raised(square, far) == {("none", "deepfool", "beats_baselines")}


def test_an_attack_that_nobody_knows_is_neither_side():
    strange = attack("nowhere:Attack", breaks=range(100))
    assert not raised(strange, attack("fgsm"), attack(breaks=range(10)))
    assert "beats_baselines" not in {check.name for check in across([strange]).get(strange.key, [])}


def test_what_would_have_to_know_an_attack_is_not_made_of_one_that_nobody_knows():
    strange, noise = attack("nowhere", breaks=range(100)), attack("noise")
    for name, beside in (("beats_baselines", noise), ("beats_single_step", attack("fgsm"))):
        check = verdict(name, strange, beside)
        assert check is not None and check.verdict == "not_made"
        assert "the attack nowhere is not known here (the module that registers it" in check.advice
        for elsewhere in (attack(beside.labels["perturbation"], norm="l2"), attack("pgd")):
            assert verdict(name, strange, elsewhere) is None
    check = verdict("beats_examination", strange, looks=[examination(range(60))])
    assert check is not None and check.verdict == "not_made"
    assert verdict("beats_examination", strange, looks=[examination(range(60), norm="l2")]) is None
    # what aims at a class or turns the image is left out, known or not
    assert not [c for c in across([attack("nowhere", target="next"), noise]).values() if len(c) > 1]
    # a library whose attacks are not told apart by their steps, even where it is installed
    assert verdict("beats_single_step", attack("nowhere:Attack"), attack("fgsm")) is None


def test_a_library_that_is_not_installed_is_named_with_what_installs_it(monkeypatch):
    from robust_eval.attacks.peers import resolve

    monkeypatch.setattr(resolve, "installed", dict)
    check = verdict("beats_baselines", attack("foolbox:NeverAskedFor"), attack("noise"))
    assert check is not None and check.verdict == "not_made"
    assert check.advice.endswith("foolbox is not installed; pip install 'robust-eval[peers]')")


def test_points_for_another_model_are_known_by_their_prefix_where_the_attack_is_not():
    strange = attack("transfer:nowhere", breaks=range(60))
    assert raised(attack(), strange) == {("none", "pgd", "beats_baselines")}
    assert not raised(strange, attack("fgsm", breaks=range(80)))


def test_an_adaptive_attack_must_not_lose_to_the_same_by_transfer():
    through, around = attack(access="adaptive", breaks=range(10)), attack(access="transfer", breaks=range(30))
    assert raised(through, around) == {("adaptive", "pgd", "adaptive_beats_transfer")}
    assert not raised(
        attack(access="adaptive", breaks=range(30)), attack(access="transfer", breaks=range(10))
    )
    assert not raised(attack(access="adaptive", breaks=range(10), steps=9), around)


def test_transfer_alone_says_little():
    around = attack(access="transfer", breaks=range(30))
    alone = {("transfer", "pgd", "attacked_adaptively")}
    assert raised(around) == alone
    assert not raised(around, attack("fgsm", access="adaptive", breaks=range(30)))
    assert not raised(around, attack("cw", access="adaptive", eps=None, breaks=range(30)))
    # another norm, a radius five times smaller and mere noise do not make up for it
    for other in (
        attack(access="adaptive", norm="l2", eps=0.5),
        attack(access="adaptive", eps=1.6 / 255),
        attack("noise", access="adaptive"),
    ):
        assert raised(around, other) == alone


def test_other_models_and_seeds_are_not_compared():
    fgsm = attack("fgsm", breaks=range(50))
    assert not raised(fgsm, attack("pgd", model="other"), attack("pgd", seed=1))


def test_a_randomised_model_is_broken_where_most_draws_are():
    fgsm = attack("fgsm", breaks=range(50), score=0.4)
    assert raised(fgsm, attack(breaks=range(50), score=0.6)) == {("none", "pgd", "beats_single_step")}


def test_an_honest_evaluation_raises_nothing_and_lists_what_was_compared():
    radii = (2 / 255, 8 / 255)
    records = [
        attack(name, eps=eps, breaks=range(start, int(most * eps * 255 / 8)))
        for eps in radii
        for name, start, most in (
            ("fgsm", 0, 120),
            ("pgd", 0, 190),
            ("apgd_ce", 1, 192),
            ("noise", 0, 12),
            ("square", 1, 150),
        )
    ]
    assert not raised(*records)
    passed = {check.name for checks in across(records).values() for check in checks}
    assert passed == {"monotone_in_eps", "beats_single_step", "beats_baselines", "strong_enough"}
    assert {c.verdict for checks in across(records).values() for c in checks} == {"ok"}


def test_an_examination_concerns_its_model_and_what_was_crafted_on_it():
    base, through, around = attack(), attack(access="adaptive"), attack(access="transfer")
    assert examines(base, base) and examines(base, around) and not examines(base, through)
    assert examines(through, around) and examines(through, through) and not examines(through, base)
    assert not examines(attack(model="other"), base)


def test_all_checks_on_clean_answers_concern_every_number():
    from robust_eval.checks import outputs

    assert set(outputs.__all__) - {"model_checks", "enough_images"} <= about("answers")


def test_an_attack_that_leaves_what_an_examination_broke_is_not_to_be_quoted():
    # McNemar at 1 % speaks from seven images on; more than 5 points of 128 beyond chance are thirteen
    for left, expected in ((6, "ok"), (7, "warn"), (13, "warn"), (14, "fail")):
        pgd = attack(breaks=range(left, 128))
        check = verdict("beats_examination", pgd, looks=[examination(range(128))])
        assert check is not None and (check.verdict, check.figure) == (expected, pytest.approx(left / 128))
    assert verdict("beats_examination", attack()) is None


def test_images_that_only_the_attack_breaks_make_up_for_as_many_that_only_the_examination_does():
    swap = attack(breaks=range(40, 100))
    check = verdict("beats_examination", swap, looks=[examination(range(60))])
    assert check is not None and (check.verdict, check.figure) == ("ok", 0)


def test_one_tiny_step_is_held_against_the_examination_though_fgsm_is_not():
    looks = [examination(range(60))]
    tiny = attack(steps=1, relative_step_size=0.01)
    check = verdict("beats_examination", tiny, looks=looks)
    assert check is not None and check.verdict == "fail"
    for name in (
        "fgsm",
        "foolbox:LinfFastGradientAttack",
        "noise",
        "square",
        "transfer:pgd",
    ):
        assert verdict("beats_examination", attack(name), looks=looks) is None
    assert verdict("beats_examination", attack(target="next"), looks=looks) is None


def test_an_examination_speaks_of_its_own_ball_and_of_larger_ones():
    looks = [examination(range(60), at=6 / 255)]
    for eps, expected in ((2 / 255, None), (6 / 255, "fail"), (8 / 255, "fail"), (16 / 255, "fail")):
        check = verdict("beats_examination", attack(eps=eps), looks=looks)
        assert (check and check.verdict) == expected
    assert verdict("beats_examination", attack(norm="l2"), looks=looks) is None
    assert verdict("beats_examination", attack(), looks=[examination(range(60), norm="l2")]) is None
    before = examination(range(60))
    before = Record(before.key, before.spec, before.labels, (), (), {}, before.rows.drop(columns="broken_at"))
    assert verdict("beats_examination", attack(), looks=[before]) is None


def test_a_minimal_norm_attack_is_held_against_the_examination_within_its_distances():
    looks = [examination(range(60))]
    for distance, expected in ((0.01, "ok"), (0.2, "fail")):
        found = attack("fmn", eps=None, breaks=range(200), radii=[8 / 255], distance=distance)
        check = verdict("beats_examination", found, looks=looks)
        assert check is not None and check.verdict == expected
    unscored = attack("fmn", eps=None, breaks=range(200), radii=[1 / 255], distance=0.2)
    assert verdict("beats_examination", unscored, looks=looks) is None


def test_an_examination_is_held_against_attacks_on_the_very_model_it_looked_at():
    through = attack(access="adaptive")
    assert verdict("beats_examination", attack(model="other"), looks=[examination(range(60))]) is None
    assert verdict("beats_examination", through, looks=[examination(range(60))]) is None
    behind = examination(range(60), of=through)
    assert verdict("beats_examination", attack(access="transfer"), looks=[behind]) is None
    check = verdict("beats_examination", through, looks=[behind])
    assert check is not None and check.verdict == "fail"


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fgsm", {}),
        ("noise", {"draws": 5000}),
        ("square", {"queries": 999}),
        ("pgd", {"steps": 1}),
        ("transfer:pgd", {"steps": 40}),
        ("foolbox:LinfFastGradientAttack", {}),
    ],
)
def test_a_weak_attack_alone_is_not_enough(name, params):
    weak = attack(name, **params)
    check = verdict("strong_enough", weak)
    assert check is not None and check.verdict == "warn" and "apgd" in check.advice
    for strong in (attack(steps=10), attack("fmn", eps=None), attack("auto_attack")):
        for record in (weak, strong):
            check = verdict("strong_enough", record, *({weak, strong} - {record}))
            assert check is not None and check.verdict == "ok"
    for elsewhere in (
        attack(steps=10, eps=4 / 255),
        attack(norm="l2"),
        attack(model="other"),
        attack("noise"),
    ):
        check = verdict("strong_enough", weak, elsewhere)
        assert check is not None and check.verdict == "warn"


@pytest.mark.parametrize(("name", "params"), [("square", {"queries": 1000}), ("pgd", {"steps": 2})])
def test_what_can_find_errors_is_enough(name, params):
    check = verdict("strong_enough", attack(name, **params))
    assert check is not None and check.verdict == "ok"


def test_what_nobody_knows_is_not_accused_and_no_proof_either():
    strange = attack("nowhere:Attack")
    for beside, expected in (([], "not_made"), ([attack("fgsm")], "not_made"), ([attack()], "ok")):
        check = verdict("strong_enough", strange, *beside)
        assert check is not None and check.verdict == expected
    check = verdict("strong_enough", attack("fgsm"), strange)
    assert check is not None and check.verdict == "ok"


def test_what_is_made_without_a_defense_is_no_strong_attack_on_it():
    through, around = attack("fgsm", access="adaptive"), attack(access="transfer")
    check = verdict("strong_enough", through, around)
    assert check is not None and check.verdict == "warn"
    assert verdict("strong_enough", around, through) is None


def test_an_attack_without_a_radius_that_finds_nothing_for_most_images_is_noticed():
    for found, expected in ((99, "warn"), (100, "ok"), (200, "ok")):
        check = verdict("finds_most", attack("cw", eps=None, norm="l2", breaks=range(found)))
        assert check is not None and check.verdict == expected
        assert check.figure == pytest.approx(1 - found / N)
    assert verdict("finds_most", attack()) is None


def test_checks_of_gradients_concern_attacks_that_follow_them():
    white, black, noise = attack(), attack("square"), attack("noise")
    clean = Record("", {}, {"family": "clean"}, (), (), {}, white.rows)
    through, around = attack(access="adaptive"), attack(access="transfer")
    for name in about("gradients"):
        assert concerns(name, white) and concerns(name, through) and concerns(name, attack(target="next"))
        assert not any(concerns(name, record) for record in (black, noise, clean, around))
        # the model that it was crafted on
        assert concerns(name, around, scored=False)
        assert not concerns(name, attack("square", access="transfer"), scored=False)
    for name in about("answers"):
        assert all(concerns(name, record) for record in (white, black, noise, clean, around))
    assert concerns("enough_images", black) and not concerns("enough_images", clean)


def test_every_check_of_a_suite_is_about_gradients_or_answers():
    names = {turn.name for level in ("quick", "full") for turn in turns(level)}
    assert names <= about("answers") | about("gradients")
    any_norm = {card.name for card in cards() if card.any_norm}
    assert any_norm <= about("answers") | about("gradients") and names & any_norm and names - any_norm
