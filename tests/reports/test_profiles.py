"""Each model has a section of its own: its checks in words, its numbers, what it is; a run tells what repeats it."""

from typing import Any

import pandas as pd
import pytest

import reports
from reports.page_bodies import Commands, Profile, Profiles
from reports.section import Source
from reports.sections import profiles, provenance
from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.results.record import Record
from robust_eval.results.store import Store

RECIPE = {
    "recipe": {
        "architecture": {"name": "small_cnn", "params": {"width": 16}},
        "regularizer": {"name": "erm", "params": {}},
        "epochs": 40.0,
    },
    "data": "d0",
}


def saved(folder, *labels: dict[str, Any], checks=(), model: Any = "net"):
    for label in labels:
        known = {
            "model": "net",
            "arch": "cnn",
            "regularizer": "erm",
            "data": "shapes",
            "seed": 0,
            "train_seed": 3,
            "family": "clean",
            "perturbation": "none",
            "norm": "none",
            "defense": "none",
            "access": "none",
            "model_key": "net",
            **label,
        }
        what = {"kind": known["family"], "name": known["perturbation"], "params": {}, "version": 1}
        spec = {
            "model": model,
            "data": {"fingerprint": "f", "n": 8},
            "perturbation": None
            if known["family"] == "clean"
            else {**what, "severity": known.get("severity")},
            "defense": known["defense"],
            "access": known["access"],
        }
        rows = pd.DataFrame({"index": range(8), "score": [1.0] * 5 + [0.0] * 3, "clean_score": 1.0})
        rows["attacked"], rows["distance"] = known["family"] == "attack", float("nan")
        number = Measurement("accuracy", 0.625, 0.3, 0.9, 8)
        facts = {"seconds": 1.0, "weights_sha256": "abc123"}
        Store(folder).write(Record(content_key(spec), spec, known, (number,), tuple(checks), facts, rows))
    return folder


def profiled(folder) -> tuple[Profile, ...]:
    (section,) = profiles.sections(Source(reports.load([folder])))
    assert isinstance(section.body, Profiles)
    return section.body.lines


def pgd(**labels: Any) -> dict[str, Any]:
    return {"family": "attack", "perturbation": "pgd", "norm": "linf", "eps": 0.03, **labels}


def test_a_check_says_what_it_looked_at_what_it_found_and_what_to_do(tmp_path):
    few = Check("class_coverage", "ok", 10.0, "shuffle the file")
    nan = Check("finite", "fail", 0.25, "mend its normalisation")
    (line,) = profiled(saved(tmp_path, {}, checks=(few, nan)))
    (raised,) = line.checks
    assert (raised.name, raised.verdict, raised.advice) == ("finite", "fail", "mend its normalisation")
    assert raised.says.endswith(".") and "25.0 %" in raised.found
    assert ("class_coverage", "") in [(check.name, check.advice) for check in line.passed]
    assert line.verdict == "fail"


def test_figures_of_several_records_are_told_by_their_ends(tmp_path):
    for place, figure in enumerate((0.1, 0.3, 0.2)):
        saved(
            tmp_path,
            pgd(eps=0.01 + 0.01 * place, severity=place),
            checks=[Check("convergence", "warn", figure, "take more steps")],
        )
    (line,) = profiled(tmp_path)
    (raised,) = [check for check in line.checks if check.name == "convergence"]
    assert raised.found.endswith("0.3 (of 3 figures, the lowest 0.1)")


def test_the_numbers_are_short_and_each_stands_once(tmp_path):
    fog = {"family": "corruption", "perturbation": "fog"}
    defended = {"defense": "mixing"}
    saved(tmp_path, {}, pgd(), *({**fog, "severity": s} for s in (1, 2, 3)))
    saved(tmp_path, defended, *(pgd(**defended, access=access) for access in ("transfer", "adaptive")))
    alone, behind = profiled(tmp_path)
    assert [number.what for number in alone.numbers].count("clean") == 1
    assert not [number for number in alone.numbers if number.what.startswith("fog")]
    assert "mean of corruptions" in [number.what for number in alone.numbers]
    assert [number.what for number in behind.numbers].count("clean") == 1
    met = [number.access for number in behind.numbers if number.what.startswith("pgd")]
    assert met == ["transfer only", "adaptive"]


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        (RECIPE, {"architecture": "small_cnn (width=16)", "regularizer": "erm", "recipe": "epochs=40"}),
        ({"weights": "w"}, {"architecture": "cnn", "model": "weights=w"}),
        ("net", {"architecture": "cnn", "model": "net"}),
        (None, {"architecture": "cnn"}),
        (["net", 3], {"model": '["net", 3]'}),
    ],
)
def test_what_a_model_is_is_told_as_far_as_its_records_say(tmp_path, model, facts):
    (line,) = profiled(saved(tmp_path, {}, model=model))
    told = dict(line.facts)
    assert facts.items() <= told.items()
    assert told["weights sha256"] == "abc123" and told["train seed"] == "3"


def test_a_run_with_its_experiment_says_how_to_repeat_it(tmp_path):
    run = saved(tmp_path / "my run; rm -rf", {})
    first = next(provenance.sections(Source(reports.load([run]), None, (run,))))
    assert first.title == "Provenance" and not isinstance(first.body, Commands)
    (run / "experiment.toml").write_text("")
    first, facts = provenance.sections(Source(reports.load([run]), None, (run,)))
    (line,) = first.body.lines
    assert line[1] == "robust-eval run './my run; rm -rf/experiment.toml' --out './my run; rm -rf-again'"
    assert (first.title, facts.title) == ("Provenance", "")
