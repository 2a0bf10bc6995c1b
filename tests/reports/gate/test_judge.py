"""A gate's verdicts, on records whose answers are known by hand."""

import json

import pytest

from reports.drops import drop, images_for_share
from reports.gate import Run, judge, parse_rules
from reports.paired import holm
from robust_eval.errors import ConfigError
from robust_eval.findings import Check
from robust_eval.results.planned import PLANNED
from robust_eval.results.store import Store


@pytest.fixture
def found(made, tmp_path):
    """Judge records, and those of a baseline, by rules."""

    def judged(records, rules, before=(), **how):
        run = Run(made.save(tmp_path / "run", *records))
        baseline = Run(made.save(tmp_path / "last", *before)) if before else None
        return judge(run, parse_rules(rules), baseline=baseline, **how)

    return judged


def told(gate):
    return " ".join(line for each in gate.judged for line in each.told)


def test_a_least_value_is_judged_by_what_was_measured(made, found):
    gate = found([made.record(right=90), made.clean()], ["pgd@8/255 >= 0.45", "clean >= 91%"])
    assert [ruled.outcome for ruled in gate.ruled] == ["pass", "fail"] and gate.code == 1
    assert [each.margin for each in gate.judged] == pytest.approx([0.0, -0.01])


def test_with_a_confidence_the_bound_decides_and_between_them_it_needs_more_images(made, found):
    rules = ["pgd@8/255 >= 0.3", "pgd@8/255 >= 0.44", "pgd@8/255 >= 0.46"]
    gate = found([made.record(right=90)], rules, confidence=0.95)
    assert [ruled.outcome for ruled in gate.ruled] == ["pass", "unknown", "fail"]
    assert gate.code == 1 and found([made.record(right=90)], rules[:2], confidence=0.95).code == 3
    assert images_for_share(0.45, 0.44) < 9500 and "9,500 would do" in told(gate)


def test_a_drop_fails_where_noise_does_not_explain_it_and_warns_where_it_could_hide_one(made, found):
    before = [made.record(right=140)]
    assert found([made.record(right=110, identity="b")], ["max-drop pgd@8/255 1%"], before).code == 1
    gate = found([made.record(right=138, identity="b")], ["max-drop pgd@8/255 1%"], before)
    assert gate.outcome == "warn" and gate.code == 0
    assert "n = 200 shows none below" in told(gate) and "images would rule out one beyond 1.0 points" in told(
        gate
    )
    rose = found([made.record(right=150, identity="b")], ["max-drop pgd@8/255 1%"], before)
    assert rose.outcome == "pass"


def test_a_drop_is_compared_image_by_image(made, found):
    before, now = made.record(right=140), made.record(right=110, identity="b")
    (each,) = found([now], ["max-drop pgd@8/255 0"], [before]).judged
    scores = [r.rows.set_index("index")["score"] for r in (now, before)]
    assert each.drop == drop(*scores) and (each.before, each.value) == (0.7, 0.55)


def test_several_drops_share_one_level(made, found):
    names = ("pgd", "bim", "mim")
    before = [made.record(right=100, perturbation=name) for name in names]
    now = [made.record(right=94, perturbation=name, identity="b") for name in names]
    alone = found(now, ["max-drop pgd@8/255 0"], before)
    assert (alone.outcome, alone.drops) == ("fail", 1)
    together = found(now, [f"max-drop {name}@8/255 0" for name in names], before)
    assert (together.outcome, together.drops) == ("warn", 3)
    p = alone.judged[0].drop.p
    assert p < 0.05 < max(holm([p] * 3))
    assert "beyond what is allowed alone, not among 3 drops (Holm)" in told(together)


def test_the_same_records_are_no_drop(made, found):
    gate = found([made.clean()], ["max-drop clean 0"], [made.clean()])
    assert gate.outcome == "pass" and "nothing was measured anew" in told(gate)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"fingerprint": "f1"}, "other images"),
        ({"params": {"steps": 40}}, "other parameters"),
        ({"eps": 4 / 255}, "the baseline has no pgd@linf:8/255 of this model; it has pgd@linf:4/255"),
        ({"n": 100, "right": 50, "fingerprint": "f2"}, "another number of images (200 beside 100)"),
    ],
)
def test_what_is_not_comparable_cannot_be_judged_and_says_what_differs(made, found, fields, why):
    gate = found([made.record(identity="b")], ["max-drop pgd@8/255 1%"], [made.record(**fields)])
    assert gate.code == 3 and why in told(gate)


def test_worst_cases_over_other_attacks_are_not_compared(made, found):
    before = [made.record(), made.record(perturbation="bim")]
    gate = found([made.record(identity="b")], ["max-drop worst_case@8/255 1%"], before)
    assert gate.code == 3 and "over other perturbations (pgd here, bim, pgd there)" in told(gate)


def test_models_are_matched_by_name_and_single_ones_anyhow(made, found):
    now = [made.clean(model="new", identity="b")]
    assert found(now, ["max-drop clean 1%"], [made.clean(model="old")]).code == 0
    two = [*now, made.clean(model="other", identity="c")]
    gate = found(two, ["max-drop clean 1%"], [made.clean(model="new")])
    assert gate.judged[0].outcome == "warn" and "no model 'other'" in told(gate)


def test_the_mean_over_corruptions_is_one_number(made, found):
    before = [made.corrupted("fog", 160), made.corrupted("snow", 120)]
    now = [made.corrupted("fog", 160, identity="b"), made.corrupted("snow", 80, identity="b")]
    gate = found(now, ["max-drop mce 1%", "corruptions >= 0.6"], before)
    drop_, floor = gate.judged
    assert (
        drop_.outcome == "fail"
        and drop_.drop.value == pytest.approx(0.1)
        and floor.value == pytest.approx(0.6)
    )
    fewer = found(now, ["max-drop mce 1%"], [*before, made.corrupted("frost", 100)])
    assert fewer.code == 3 and "mean is over other perturbations" in told(fewer)


def test_classes_are_judged_one_by_one_by_their_names(made, found):
    score = [1.0, 0.0] * 60 + [1.0, 1.0] * 40
    run = [made.clean(score=score, names=["cat", "dog"])]
    rules = [{"min": "clean >= 0.9", "class": "*"}, {"min": "clean >= 0.9", "class": "cat"}]
    gate = found(run, rules)
    assert [(each.of_class, each.outcome) for each in gate.judged] == [
        ("cat", "pass"),
        ("dog", "fail"),
        ("cat", "pass"),
    ]
    assert [each.value for each in gate.judged] == [1.0, 0.4, 1.0] and gate.judged[0].n == 100
    with pytest.raises(ConfigError, match="no class is called 'dgo' \\(did you mean 'dog'"):
        found(run, [{"min": "clean >= 0.9", "class": "dgo"}])


def test_a_number_that_a_check_fails_cannot_be_judged_unless_checks_only_warn(made, found):
    bad = made.record(checks=[Check("vanishing_gradient", "fail", 0.5, "attack the logits")])
    strict = found([bad], ["pgd@8/255 >= 0.4"])
    assert strict.code == 3 and "vanishing_gradient fails: attack the logits" in told(strict)
    assert found([bad], ["pgd@8/255 >= 0.4"], checks="warn").outcome == "warn"
    assert found([bad], ["pgd@8/255 >= 0.9"], checks="warn").code == 1
    only_warns = made.record(checks=[Check("converged", "warn", 0.5, "more steps")])
    assert found([only_warns], ["pgd@8/255 >= 0.4"]).outcome == "pass"


def test_a_doubted_baseline_is_no_measure(made, found):
    bad = made.record(checks=[Check("vanishing_gradient", "fail", 0.5, "attack the logits")])
    gate = found([made.record(identity="b")], ["max-drop pgd@8/255 1%"], [bad])
    assert gate.code == 3 and "of the baseline: attack the logits" in told(gate)
    warned = found([made.record(identity="b")], ["max-drop pgd@8/255 1%"], [bad], checks="warn")
    assert warned.outcome == "warn"


def test_a_model_that_was_not_examined_cannot_be_judged_under_attack(made, tmp_path):
    Store(tmp_path).write(made.record())
    Store(tmp_path).write(made.clean())
    gate = judge(Run(tmp_path), parse_rules(["pgd@8/255 >= 0.4", "clean >= 0.5"]))
    assert [ruled.outcome for ruled in gate.ruled] == ["unknown", "pass"]
    assert "--checks quick" in told(gate)


def test_a_failed_cell_cannot_be_judged_where_a_rule_needs_it(made, tmp_path):
    run = made.save(tmp_path, made.clean(), made.record())
    lost = made.record(perturbation="bim")
    Store(run).fail(lost.key, lost.labels, "RuntimeError: out of memory", lost.spec)
    gate = judge(
        Run(run), parse_rules(["bim@8/255 >= 0.1", "worst_case@8/255 >= 0.1", "clean >= 0.5", "pgd@* >= 0"])
    )
    assert [ruled.outcome for ruled in gate.ruled] == ["unknown", "unknown", "pass", "pass"]
    assert "out of memory" in told(gate) and gate.code == 3


def test_a_partial_run_cannot_be_judged_where_a_rule_needs_what_is_missing(made, tmp_path):
    run = made.save(tmp_path, made.clean(), made.record())
    planned = [made.clean(), made.record(), made.record(perturbation="bim"), made.corrupted()]
    cells = [{"key": each.key, "labels": each.labels} for each in planned]
    (run / PLANNED).write_text(json.dumps({"cells": cells}))
    rules = [
        "bim@8/255 >= 0.1",
        "worst_case@8/255 >= 0.1",
        "fog@3 >= 0",
        "corruptions >= 0",
        "clean >= 0.5",
        "pgd@* >= 0",
    ]
    gate = judge(Run(run), parse_rules(rules))
    assert [ruled.outcome for ruled in gate.ruled] == ["unknown"] * 4 + ["pass"] * 2
    assert gate.remarks == (
        "the run is partial: 2 planned cells not measured; the same command goes on from there",
    )
    (run / PLANNED).write_text("{")
    assert judge(Run(run), parse_rules(["clean >= 0.5"])).remarks == ()


def test_a_defended_model_is_judged_by_the_worst_over_all_attackers(made, found):
    records = [
        made.record(defense="mixing", access="transfer", right=150),
        made.record(defense="mixing", access="adaptive", right=60),
        made.record(),
    ]
    gate = found(records, ["[net + mixing] worst_case@8/255 >= 0.5", "[net] worst_case@8/255 >= 0.5"])
    assert [(each.who, each.value) for each in gate.judged] == [("net + mixing", 0.3), ("net", 0.5)]


def test_a_pattern_counts_the_number_of_a_single_attack_once(made, found):
    gate = found(
        [made.record(identity="b"), made.clean(identity="b")],
        ["max-drop *@8/255 1%"],
        [made.record(right=99)],
    )
    assert [each.what for each in gate.judged] == ["pgd@linf:8/255"] and gate.drops == 1
    assert found([made.record()], ["worst_case@8/255 >= 0.5"]).code == 0


def test_draws_of_a_randomised_model_count_as_shares(made, found):
    gate = found([made.record(score=[0.5, 0.25] * 100)], ["pgd@8/255 >= 0.37"])
    assert gate.judged[0].value == 0.375 and gate.code == 0


def test_few_images_show_no_drop_at_all(made, found):
    gate = found([made.clean(right=2, n=3, identity="b")], ["max-drop clean 0"], [made.clean(right=3, n=3)])
    assert gate.code == 3 and "not enough images: 3 show no drop at all" in told(gate)


def test_what_is_known_and_was_not_measured_cannot_be_judged(made, found):
    gate = found([made.clean()], ["auto_attack@linf:8/255 >= 0.4", "*@l2:0.5 >= 0.4"])
    assert gate.code == 3 and "the run has no such number; it has clean" in told(gate)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("pdg@8/255 >= 0.4", "unknown number 'pdg' (did you mean 'pgd'?)"),
        ("pgd >= 0.4", "expected a radius or a severity, got none; write pgd@linf:8/255"),
        ("[nett] clean >= 0.4", "no model is called 'nett' (did you mean 'net'?)"),
        ("[net + x] clean >= 0.4", "no defense is called 'x'"),
        ("max-drop clean 1%", "expected a baseline to drop from, got none"),
    ],
)
def test_a_rule_about_what_there_is_not_is_wrong_input(found, made, rule, line):
    with pytest.raises(ConfigError) as error:
        found([made.clean(), made.record()], [rule])
    assert line in str(error.value)


def test_a_run_is_no_baseline_of_itself(made, tmp_path):
    run = made.save(tmp_path, made.clean())
    with pytest.raises(ConfigError, match="the run itself"):
        judge(Run(run), parse_rules(["max-drop clean 1%"]), baseline=Run(run))
