"""The verdict beside a number: what an examination found, and what records say of one another."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm

import reports
from reports.paired import difference
from reports.sections.trust import BASE_ONLY, NOT_EXAMINED, NOTHING_RUN, trust
from robust_eval.checks import enough_images
from robust_eval.findings import Check
from robust_eval.identity import content_key
from robust_eval.metrics.classification import Measurement, calibration_shown
from robust_eval.metrics.intervals import wilson
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N = 40
LINF = 8 / 255
FINE = Check("planted", "ok", 1.0, "x")
MASKED = Check("unbounded", "fail", 0.5, "mend the gradients")
TRAINING = Check("eval_mode", "fail", 2.0, "call eval()")


def record(
    name: str = "pgd",
    *,
    model: str = "net",
    defense: str = "none",
    access: str = "none",
    family: str = "attack",
    breaks: Sequence[int] = range(20),
    eps: float | None = LINF,
    norm: str = "linf",
    params: dict[str, Any] | None = None,
    checks: Sequence[Check] = (),
    summary: Sequence[Measurement] | None = None,
    identity: Any = None,
    train_seed: int = 0,
    columns: dict[str, Any] | None = None,
) -> Record:
    attack = family == "attack"
    given = {"eps": eps, "norm": norm, "steps": 10} if attack and params is None else params or {}
    described = {"kind": family, "name": name, "params": given, "version": 1}
    behind = {"kind": "defense", "name": defense, "params": {}, "version": 1}
    spec = {
        "model": identity or {"sha256": model},
        "data": {"fingerprint": "0123abcd", "n": N},
        "perturbation": None if family == "clean" else described,
        "defense": None if defense == "none" else behind,
        "pool": None,
        "access": access,
        "seed": 0,
        "draws": None,
    }
    score = np.ones(N)
    score[list(breaks)] = 0
    rows = pd.DataFrame(
        {
            "index": range(N),
            "clean_score": 1.0,
            "score": score,
            "attacked": True,
            "distance": 0.01,
            "forwards": 12,
            "backwards": 10,
            **(columns or {}),
        }
    )
    if summary is None:
        summary = [Measurement("accuracy", float(score.mean()), *wilson(float(score.sum()), N), N)]
    labels = {
        "model": model,
        "arch": "resnet",
        "regularizer": "erm",
        "train_seed": train_seed,
        "defense": defense,
        "defense_params": {},
        "access": access,
        "data": "digits",
        "family": family,
        "perturbation": "none" if family == "clean" else name,
        "params": given,
        "norm": norm if attack else "none",
        "eps": eps if attack else None,
        "severity": given.get("severity"),
        "seed": 0,
        "model_key": content_key({"model": spec["model"]}),
    }
    return Record(content_key(spec), spec, labels, tuple(summary), tuple(checks), {"seconds": 1.0}, rows)


def clean(**fields: Any) -> Record:
    return record("none", family="clean", **{"breaks": (), **fields})


def corrupted(**fields: Any) -> Record:
    return record("fog", family="corruption", params={"severity": 3}, **fields)


def examination(
    level: str = "quick",
    *checks: Check,
    eps: float = LINF,
    norm: str = "linf",
    norm_only: bool = False,
    broken: Sequence[int] | None = None,
    **fields: Any,
) -> Record:
    params = {"level": level, "norm": norm, "eps": eps, "norm_only": norm_only}
    made = record("examination", family="examination", params=params, checks=checks, summary=(), **fields)
    rows = made.rows.head(32)
    if broken is not None:
        rows = rows.assign(broken_at=np.where(rows["index"].isin(list(broken)), eps, np.nan))
    return replace(made, rows=rows)


def save(folder: Path, *records: Record) -> Path:
    for item in records:
        Store(folder).write(item)
    return folder


def checks_of(results: pd.DataFrame, **wanted: Any) -> str:
    for name, value in wanted.items():
        results = results[results[name] == value]
    (found,) = set(results["checks"])
    return str(found)


def test_an_examination_is_no_measurement(tmp_path):
    run = save(tmp_path / "run", clean(), record(), examination("quick", MASKED))
    report = reports.write([run], tmp_path / "out")
    assert set(report.results["family"]) == {"clean", "attack"}
    assert "examination linf" not in (tmp_path / "out" / "index.html").read_text()
    loaded = reports.load([run])
    assert len(loaded.entries) == 2 and len(loaded.examinations) == 1
    assert len(reports.comparison(loaded.results).columns) == 2


def test_what_an_examination_says_of_gradients_stands_beside_attacks_alone(tmp_path):
    run = save(tmp_path, clean(), corrupted(), record(), examination("quick", MASKED, FINE))
    results = reports.load([run]).results
    assert checks_of(results, family="attack") == "unbounded!"
    assert checks_of(results, family="clean") == checks_of(results, family="corruption") == "ok"


def test_what_an_examination_says_of_answers_stands_beside_every_number(tmp_path):
    run = save(tmp_path, clean(), corrupted(), record(), examination("quick", TRAINING))
    assert set(reports.load([run]).results["checks"]) == {"eval_mode!"}


def test_another_model_is_not_touched(tmp_path):
    run = save(tmp_path, record(), record(model="other"), examination("quick", MASKED, model="other"))
    results = reports.load([run]).results
    assert checks_of(results, model="net") == "ok"
    assert checks_of(results, model="other") == "unbounded!"


@pytest.mark.parametrize("order", [("quick", "full"), ("full", "quick")])
def test_the_most_thorough_examination_counts(tmp_path, order):
    found = {"quick": MASKED, "full": FINE}
    run = save(tmp_path, record(), *(examination(level, found[level]) for level in order))
    loaded = reports.load([run])
    assert checks_of(loaded.results, family="attack") == "ok"
    (line,) = trust(loaded)
    assert line.examined == "full, 32 images at linf 8/255" and line.verdict == "ok"


def test_of_two_examinations_alike_the_one_near_the_attack_counts(tmp_path):
    run = save(
        tmp_path,
        record(),
        record(eps=32 / 255),
        examination("quick", MASKED, eps=30 / 255),
        examination("quick", FINE, eps=LINF),
    )
    results = reports.load([run]).results
    assert checks_of(results, eps=LINF) == "ok" and checks_of(results, eps=32 / 255) == "unbounded!"


def test_an_attack_by_transfer_is_judged_by_both_of_its_models(tmp_path):
    shared = {"defense": "mixing"}
    run = save(
        tmp_path,
        record(access="transfer", **shared),
        record(access="adaptive", **shared),
        examination("quick", MASKED),
        examination("quick", Check("planted", "warn", 0.5, "x"), access="adaptive", **shared),
    )
    results = reports.load([run]).results
    assert checks_of(results, access="transfer") == "unbounded!"
    assert checks_of(results, access="adaptive") == "planted"
    assert checks_of(results, access="any") == "planted;unbounded!"


def test_the_worst_verdict_of_a_name_is_kept(tmp_path):
    own = Check("finite", "ok", 0.0, "x")
    run = save(tmp_path, clean(checks=[own]), examination("quick", Check("finite", "fail", 0.1, "x")))
    (entry,) = reports.load([run]).entries
    assert [(check.name, check.verdict) for check in entry.checks] == [("finite", "fail")]


def test_records_are_compared_when_they_are_loaded(tmp_path):
    weak = record(breaks=range(4))
    run = save(tmp_path, record("fgsm"), weak, record("noise", breaks=range(10, 30)))
    results = reports.load([run]).results
    assert checks_of(results, perturbation="pgd") == "beats_baselines;beats_single_step!"
    assert checks_of(results, perturbation="noise") == "ok"
    assert checks_of(results, perturbation="worst_case") == "beats_baselines;beats_single_step!"


def test_transfer_is_never_shown_alone_in_silence(tmp_path):
    run = save(tmp_path, record(defense="mixing", access="transfer"))
    assert set(reports.load([run]).results["checks"]) == {"attacked_adaptively"}


def test_gradients_say_nothing_of_what_follows_none(tmp_path):
    blind = Check("vanishing_gradient", "fail", 1.0, "x")
    own = [blind, Check("rounding", "warn", 0.1, "x")]
    run = save(
        tmp_path,
        *(record(name, checks=own) for name in ("pgd", "square", "noise")),
        examination("quick", MASKED, TRAINING),
    )
    results = reports.load([run]).results
    assert checks_of(results, perturbation="pgd") == "eval_mode!;rounding;unbounded!;vanishing_gradient!"
    assert checks_of(results, perturbation="square") == "eval_mode!;rounding"
    assert checks_of(results, perturbation="noise") == "eval_mode!;rounding"


def test_a_number_is_judged_by_the_examination_in_its_norm(tmp_path):
    unbounded, planted = Check("unbounded", "warn", 0.3, "x"), Check("planted", "warn", 0.5, "x")
    noise = Check("white_box_beats_noise", "warn", 0.1, "x")
    run = save(
        tmp_path,
        clean(),
        record(),
        record(norm="l2", eps=0.5),
        record("apgd_ce", norm="l1", eps=12.0),
        examination("quick", planted, unbounded, TRAINING),
        examination("quick", noise, norm="l2", eps=0.5, norm_only=True),
    )
    loaded = reports.load([run])
    results = loaded.results
    assert checks_of(results, norm="linf") == "eval_mode!;planted;unbounded"
    # what holds in every norm was found in the other one
    assert checks_of(results, norm="l2") == "eval_mode!;unbounded;white_box_beats_noise"
    assert checks_of(results, norm="l1") == checks_of(results, norm="l2")
    assert checks_of(results, family="clean") == "eval_mode!"
    (line,) = trust(loaded)
    assert line.examined == (
        "quick, 32 images at linf 8/255; quick, 32 images at l2 0.5; "
        "l1 was not examined: attacks in it are judged by l2"
    )


def test_a_weak_attack_is_told_beside_its_own_number_alone(tmp_path):
    weak, strong = record("bim", breaks=range(2)), record(breaks=range(30))
    run = save(tmp_path, weak, strong, examination("quick", FINE, broken=range(28)))
    loaded = reports.load([run])
    assert checks_of(loaded.results, perturbation="bim") == "beats_examination!"
    assert checks_of(loaded.results, perturbation="pgd") == "ok"
    # the worst case is the strong attack's
    assert checks_of(loaded.results, perturbation="worst_case") == "ok"
    (line,) = trust(loaded)
    assert line.words == "do not quote 1 of 2 numbers: beats examination"


def test_a_worst_case_of_weak_attacks_is_held_against_the_examination_too(tmp_path):
    halves = [record("bim", breaks=range(14)), record("mim", breaks=range(14, 28))]
    look = examination("quick", FINE, broken=range(28))
    results = reports.load([save(tmp_path / "a", *halves, look)]).results
    assert checks_of(results, perturbation="bim") == "beats_examination!"
    assert checks_of(results, perturbation="worst_case") == "ok", "together they break what it broke"
    same = [record(name, breaks=range(14)) for name in ("bim", "mim")]
    results = reports.load([save(tmp_path / "b", *same, look)]).results
    assert checks_of(results, perturbation="worst_case") == "beats_examination!"


def test_a_weakness_of_transfer_is_none_of_the_worst_over_both(tmp_path):
    least = [Check("minimal_transfer", "warn", 1.0, "x")]
    shared = {"defense": "mixing", "columns": {"distance": 0.01}}
    smallest = {"eps": None, "summary": [Measurement("accuracy", 0.5, 0.4, 0.6, N, LINF)]}
    run = save(
        tmp_path,
        record("fmn", access="transfer", checks=least, **shared, **smallest),
        record(access="transfer", **shared),
        record(access="adaptive", **shared),
    )
    results = reports.load([run]).results
    assert checks_of(results, perturbation="worst_case", access="transfer") == "minimal_transfer"
    assert checks_of(results, perturbation="worst_case", access="any") == "ok"


def words(tmp_path: Path, *records: Record) -> str:
    (line,) = trust(reports.load([save(tmp_path, *records)]))
    return line.words


def test_the_verdict_says_which_numbers_may_be_quoted(tmp_path):
    assert words(tmp_path / "a", clean(), record()) == "no check objects; not examined"
    assert words(tmp_path / "b", clean(), record(), examination("full", FINE)) == "no check objects"
    warned = record(checks=[Check("rounding", "warn", 0.1, "x")])
    assert words(tmp_path / "c", clean(), warned) == "doubtful in 1 of 2 numbers: 1 check warns"
    blind = record(checks=[Check("zero_gradient", "warn", 1.0, "x")])
    assert words(tmp_path / "g", blind) == "doubtful: 1 check warns, gradients may be masked"
    masked = words(tmp_path / "d", clean(), record(), examination("full", MASKED))
    assert masked == "do not quote 1 of 2 numbers: gradients look masked: unbounded"
    assert (
        words(tmp_path / "e", clean(), record(), examination("quick", TRAINING)) == "do not quote: eval mode"
    )
    lost = Check.not_made("planted", IndexError("list index out of range"))
    unknown = words(tmp_path / "h", clean(), record(), examination("full", FINE, lost))
    assert unknown == "not known for 1 of 2 numbers: not made: planted"
    alone = words(tmp_path / "f", clean(), examination("quick", MASKED))
    assert alone == "no attack was run, and none could be trusted: unbounded"


def test_what_passed_is_told_once(tmp_path):
    run = save(
        tmp_path / "run",
        record(checks=[FINE]),
        record(model="b", checks=[FINE, Check("rounding", "ok", 0.0, "x")]),
    )
    reports.write([run], tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "- Passed by all: planted, strong enough.\n- Passed by b: rounding.\n" in text


def test_who_was_not_examined_is_told(tmp_path):
    recipes = [{"recipe": {"lr": 0.1, "seed": seed}} for seed in (0, 1)]
    trained = [record(identity=recipe, train_seed=i) for i, recipe in enumerate(recipes)]
    run = save(tmp_path, *trained, record(model="other"), examination("quick", FINE, identity=recipes[0]))
    told = {line.model: line.examined for line in trust(reports.load([run]))}
    assert told == {
        "net": "quick, 32 images at linf 8/255; 1 of 2 trainings not examined",
        "other": NOT_EXAMINED,
    }


def test_why_a_model_was_not_examined_is_told(tmp_path):
    (line,) = trust(reports.load([save(tmp_path / "a", clean(), record())]))
    assert line.examined == NOT_EXAMINED and "--checks" in line.examined
    (line,) = trust(reports.load([save(tmp_path / "b", clean(), corrupted())]))
    assert (line.examined, line.words) == (NOTHING_RUN, "no check objects; not examined")


def test_an_examination_that_failed_is_not_taken_for_none(tmp_path):
    look = examination("quick", norm="l2", eps=0.5)
    run = save(tmp_path / "run", clean(), record(), examination("quick", FINE))
    Store(run).fail(look.key, look.labels, "Traceback (most recent call last):\n  x\nRuntimeError: no memory")
    Store(run).fail("0", {**clean().labels}, "another cell")
    (tmp_path / "run/failed/damaged.json").write_text("{")
    (line,) = trust(reports.load([run]))
    assert line.examined == (
        "quick, 32 images at linf 8/255; the examination at l2 0.5 failed: RuntimeError: no memory"
    )
    assert (line.words, line.relied) == ("no check objects; not examined", False)
    Store(run).write(examination("full", norm="l2", eps=1.0))  # asked for again, at another radius
    (line,) = trust(reports.load([run]))
    assert line.words == "no check objects" and line.relied


def test_an_examination_that_alone_failed_is_told(tmp_path):
    look = examination("quick")
    run = save(tmp_path, record(), record(model="other"))
    Store(run).fail(look.key, look.labels, "")
    told = {line.model: line.examined for line in trust(reports.load([run]))}
    assert told == {"net": "the examination at linf 8/255 failed", "other": NOT_EXAMINED}


def test_too_few_images_say_nothing(tmp_path):
    few, fewer = enough_images(12), enough_images(7)
    assert [enough_images(n).verdict for n in (7, 8, 19, 20)] == ["fail", "warn", "warn", "ok"]
    assert words(tmp_path / "a", record(), examination("quick", few)) == "too few images to say"
    assert words(tmp_path / "b", clean(), record(), examination("quick", fewer)) == (
        "do not quote 1 of 2 numbers: too few images to say"
    )
    assert words(
        tmp_path / "c", record(), examination("quick", few, FINE, Check("planted", "warn", 0.0, "x"))
    ) == ("doubtful: 2 checks warn")


def test_a_step_alone_is_no_evaluation(tmp_path):
    assert (
        words(tmp_path, record("fgsm", params={"eps": LINF}), examination("quick", FINE))
        == "doubtful: only weak attacks were run"
    )


def test_a_defense_is_not_examined_by_looking_at_the_model_without_it(tmp_path):
    run = save(tmp_path, record(), record(defense="mixing", access="adaptive"), examination("quick", FINE))
    told = {line.defense: line.examined for line in trust(reports.load([run]))}
    assert told == {"none": "quick, 32 images at linf 8/255", "mixing": BASE_ONLY}


def test_every_format_tells_what_was_found_passed_and_looked_at(tmp_path):
    run = save(tmp_path / "run", clean(), record(), examination("full", MASKED, FINE))
    report = reports.write([run], tmp_path / "out")
    page, markdown, latex = (
        (tmp_path / "out" / n).read_text() for n in ("index.html", "table.md", "tables/trust.tex")
    )
    for text in (page, markdown, latex):
        for word in ("gradients look masked", "unbounded", "mend the gradients", "full, 32 images"):
            assert word in text, word
    assert "planted" in page and "- Passed by all: planted, strong enough." in markdown
    assert page.index("<h2>Trust</h2>") < page.index("<h2>Attacks</h2>")
    assert markdown.index("## Trust") < markdown.index("## Attacks")
    assert 'title="unbounded (0.5): mend the gradients"' in page
    assert report.doubts == ("fail: unbounded 0.5: net (1 of 2 records): mend the gradients",)


def test_what_checks_say_cannot_inject_markup(tmp_path):
    evil = "<script>x</script> | *a* & 50% \\input{x}"
    found = examination("quick", Check(evil, "fail", 1.0, evil), Check(f"ok {evil}", "ok", 1.0, evil))
    reports.write([save(tmp_path / "run", record(), found)], tmp_path / "out")
    assert "<script>x" not in (tmp_path / "out" / "index.html").read_text()
    markdown = (tmp_path / "out" / "table.md").read_text()
    assert "<script" not in markdown and r"\| \*a\* &amp; 50% \\input{x}" in markdown
    paper = (tmp_path / "out" / "tables" / "trust.tex").read_text()
    spelt = "\n".join(line for line in paper.splitlines() if not line.startswith("%")).replace(
        r"\allowbreak{}", ""
    )
    assert r"\& 50\% \textbackslash{}input\{x\}" in spelt and r"\input" not in spelt


def test_examinations_alone_can_be_reported(tmp_path):
    reports.write([save(tmp_path / "run", examination("full", MASKED))], tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Nothing was measured." in text and "mend the gradients" in text


def test_an_attack_states_its_passes_and_the_images_their_hash(tmp_path):
    some = {"attacked": [True] * 10 + [False] * 30, "forwards": [30] * 10 + [1] * 30, "backwards": 20}
    report = reports.write([save(tmp_path / "run", record(columns=some))], tmp_path / "out")
    assert "| pgd | linf 8/255 | steps=10 | 30 + 20 |" in (tmp_path / "out" / "table.md").read_text()
    assert f"{N}, sha256 0123abcd" in (report.out / "index.html").read_text()


def test_certified_accuracy_is_a_table_by_radius(tmp_path):
    radii = (0.0, 0.25, 0.5)
    values = (0.9, 0.6, 0.3)
    certified = [
        Measurement("certified_accuracy", value, value - 0.1, value + 0.1, N, eps)
        for eps, value in zip(radii, values, strict=True)
    ]
    summary = [Measurement("accuracy", 0.9, 0.8, 1.0, N), *certified]
    run = save(tmp_path / "run", clean(defense="gaussian_smoothing", summary=summary), record())
    report = reports.write([run], tmp_path / "out")
    rows = report.results[report.results["metric"] == "certified_accuracy"]
    assert list(rows["eps"]) == list(radii) and set(rows["norm"]) == {"l2"}
    markdown = (tmp_path / "out" / "table.md").read_text()
    assert "| model | defense | certified l2 0 | certified l2 0.25 | certified l2 0.5 |" in markdown
    assert (
        "| net | gaussian_smoothing | 90.0 (80.0–100.0) | 60.0 (50.0–70.0) | 30.0 (20.0–40.0) |" in markdown
    )
    assert "attack" not in set(rows["family"]) and "linf 8/255 or l2" not in markdown


def test_the_paired_interval_is_bonett_and_prices():
    # 6 images right with the first model only, 20 with the second only, of 100
    reference, other = (
        pd.Series([1.0] * 50 + [0.0] * 50),
        pd.Series([1.0] * 44 + [0.0] * 6 + [1.0] * 20 + [0.0] * 30),
    )
    found = difference(other, reference)
    assert found is not None
    gained, lost, n = (20 + 1) / 102, (6 + 1) / 102, 102
    half = norm.ppf(0.975) * math.sqrt((gained + lost - (gained - lost) ** 2) / n)
    assert found.value == pytest.approx(0.14)
    assert (found.low, found.high) == pytest.approx((gained - lost - half, gained - lost + half))
    assert found.p == pytest.approx(binomtest(6, 26).pvalue)
    assert found.text == f"+14.0 ({100 * found.low:+.1f} to {100 * found.high:+.1f}), p = {found.p:.2g}"


def test_the_paired_interval_covers_the_truth_nineteen_times_of_twenty():
    random = np.random.default_rng(0)
    # right by both 60 %, by one only 10 % and 20 %: the truth is a difference of 10 points
    kinds = random.choice(4, p=[0.6, 0.1, 0.2, 0.1], size=(400, 150))
    covered = [
        found.low <= 0.1 <= found.high
        for kind in kinds
        if (found := difference(pd.Series((kind % 2 == 0) * 1.0), pd.Series((kind < 2) * 1.0))) is not None
    ]
    assert len(covered) == 400
    assert binomtest(sum(covered), 400, 0.95).pvalue > 0.01


def test_models_are_compared_on_the_same_images_under_the_same_attacks(tmp_path):
    run = save(
        tmp_path / "run",
        *(clean(model=name) for name in "ab"),
        record(model="a", breaks=range(30)),
        record("fgsm", model="a", breaks=range(25, 35)),
        record(model="b", breaks=range(20)),
        record("fgsm", model="b", breaks=range(10)),
        record(model="a", eps=4 / 255),
        record("bim", model="b", eps=4 / 255),
    )
    reports.write([run], tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    section = text.split("## Differences between models")[1].split("\n##")[0]
    assert "beside a on the same 40 images" in section
    # 35 of a's images are broken and 20 of b's: 15 of 40 more stand; at 4/255 nothing is alike
    assert "| model | clean | worst case linf 8/255 |" in section
    assert re.search(r"\| b \| \+0\.0 \(.*\), p = 1 \| \+37\.5 \(.*\), p &lt; 0\.001 \|", section)


def test_models_trained_several_times_are_not_compared_by_images(tmp_path):
    trained = [clean(identity={"recipe": {"seed": seed}}, train_seed=seed) for seed in (0, 1)]
    reports.write([save(tmp_path / "run", *trained, clean(model="b"))], tmp_path / "out")
    assert "Differences" not in (tmp_path / "out" / "table.md").read_text()


def test_calibration_is_zero_for_honest_confidence_and_the_excess_for_boasting():
    rows = pd.DataFrame({"label": 0, "prediction": [0, 0, 0, 1], "confidence": 0.75}, index=range(4))
    assert [m.value for m in calibration_shown(rows)] == pytest.approx([0, 0, 0])
    assert [m.value for m in calibration_shown(rows.assign(confidence=1.0))] == pytest.approx(
        [0.25, 0.25, 0.25]
    )
    assert [m.value for m in calibration_shown(rows.assign(confidence=0.5))] == pytest.approx(
        [0.25, 0.25, -0.25]
    )
    assert calibration_shown(rows.drop(columns="confidence")) == []


def test_calibration_has_a_table_and_stands_in_the_csv(tmp_path):
    columns = {"label": 0, "prediction": 0, "confidence": 0.8}
    report = reports.write([save(tmp_path / "run", clean(columns=columns), record())], tmp_path / "out")
    values = dict(zip(report.results["metric"], report.results["value"], strict=True))
    assert values["calibration_error"] == pytest.approx(0.2) and values["confidence_gap"] == pytest.approx(
        -0.2
    )
    assert "| net | none | 0.2 | 0.2 | -0.2 |" in (tmp_path / "out" / "table.md").read_text()


def test_draws_of_a_gradient_are_part_of_an_attacks_name(tmp_path):
    first = record()
    made = []
    for draws in (5, 50):
        spec = {**first.spec, "gradient_draws": draws}
        made.append(replace(first, spec=spec, key=content_key(spec)))
    names = set(reports.load([save(tmp_path, *made)]).results["perturbation"])
    assert {"pgd (gradient_draws=5)", "pgd (gradient_draws=50)"} <= names
