"""Records side by side, with rows whose verdict is known: silent where an evaluation is honest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robust_eval.cell import content_key
from robust_eval.checks.across import ABOUT_ANSWERS, across, examines
from robust_eval.record import Check, Measurement, Record

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


def verdict(name: str, record: Record, *others: Record) -> Check | None:
    found = [check for check in across([record, *others]).get(record.key, []) if check.name == name]
    assert len(found) < 2
    return found[0] if found else None


def raised(*records: Record) -> set[tuple[str, str, str]]:
    """Access, attack and check wherever one warns or fails."""
    by_key = {record.key: record for record in records}
    return {
        (by_key[key].labels["access"], by_key[key].labels["perturbation"], check.name)
        for key, checks in across(records).items()
        for check in checks
        if check.verdict != "ok"
    }


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
    assert passed == {"monotone_in_eps", "beats_single_step", "beats_baselines"}


def test_an_examination_concerns_its_model_and_what_was_crafted_on_it():
    base, through, around = attack(), attack(access="adaptive"), attack(access="transfer")
    assert examines(base, base) and examines(base, around) and not examines(base, through)
    assert examines(through, around) and examines(through, through) and not examines(through, base)
    assert not examines(attack(model="other"), base)


def test_all_checks_on_clean_answers_concern_every_number():
    from robust_eval.checks import outputs

    assert set(outputs.__all__) - {"model_checks", "enough_images"} <= ABOUT_ANSWERS
