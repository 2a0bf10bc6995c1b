"""A check carries its card: whatever else has to know of it reads it there."""

import ast
from pathlib import Path

import pandas as pd
import pytest

import robust_eval
import robust_eval.results.comparisons  # whose checks have cards as well
from robust_eval.checks import card as module
from robust_eval.checks.card import card_of, cards, check, turns
from robust_eval.checks.meanings import figure_text
from robust_eval.checks.suite import run_suite
from robust_eval.checks.table import PATH, page
from robust_eval.findings import Check
from robust_eval.results.comparisons import across
from robust_eval.results.concerns import concerns
from robust_eval.results.record import Record

PACKAGE = Path(robust_eval.__file__).parent


@pytest.fixture(autouse=True)
def nothing_stays_registered(monkeypatch):
    monkeypatch.setattr(module, "_CHECKS", dict(module._CHECKS))


def attack(name):
    labels = {
        "family": "attack",
        "perturbation": name,
        "access": "none",
        "norm": "l1",
        "eps": 1.0,
        "defense": "none",
    }
    rows = pd.DataFrame({"index": [0], "score": [0.0]})
    return Record(name, {}, labels, (), (), {}, rows)


def calls():
    """Every call whose first argument is a text, with what is called."""
    for file in [
        *PACKAGE.glob("checks/**/*.py"),
        *PACKAGE.glob("results/**/*.py"),
        *PACKAGE.glob("evaluation/*.py"),
    ]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                yield ast.unparse(node.func), node.args[0].value


def test_a_check_is_one_function(zoo, subject):
    @check(
        about="gradients",
        words="images looked at",
        unit="count",
        masked=True,
        quick=15,
        full=500,
        full_params={"times": 2},
    )
    def trial(subject, *, times=1):
        """Fail always. On purpose."""
        return Check("trial", "fail", float(times * len(subject.x)), "do nothing")

    made = subject(zoo.plain, n=4)
    found = run_suite(made, "quick")
    assert [check.name for check in found][:3] == ["eval_mode", "trial", "batch_dependence"]
    assert figure_text(found[1]) == "images looked at: 4"
    name, make = turns("full")[-1]
    assert (name, make(made).figure) == ("trial", 8)
    assert "| `trial` | Fail always. | images looked at (count) | attacks that follow gradients |" in page()
    assert "`trial`, `unbounded`" in page().splitlines()[-1]
    assert concerns("trial", attack("pgd")) and not concerns("trial", attack("square"))
    assert card_of("trial").masked and card_of("trial").suspicious and not card_of("trial").any_norm


def test_a_comparison_is_one_function():
    @check(words="records side by side", unit="count", across=5)
    def trial(group):
        """Warn about every record."""
        for record in group.records:
            yield record.key, Check("trial", "warn", float(len(group.records)), "measure less")

    found = across([attack("pgd"), attack("noise")])
    assert [(checks[0].name, checks[0].figure) for checks in found.values()] == [("trial", 2)] * 2
    assert "| `trial` | Warn about every record. | records side by side (count) | attacks |" in page()


def test_every_check_that_is_made_has_a_card():
    made = {name for function, name in calls() if function in ("Check", "Check.not_made")}
    known = {card.name for card in cards()}
    assert len(made) > 25 and made <= known, made - known


def test_every_card_is_of_a_check_that_is_made():
    made = {name for function, name in calls() if function in ("Check", "worst_of")}
    assert {card.name for card in cards()} == made


def test_every_card_says_what_its_check_and_its_figure_are():
    for card in cards():
        assert card.says.startswith(("Warn", "Fail")) and card.says.endswith("."), card.name
        assert card.words and "\n" not in card.says + card.words


def test_what_is_about_answers_holds_in_any_norm_and_what_masks_is_suspicious():
    for card in cards():
        assert card.any_norm or card.about != "answers"
        assert card.suspicious or not card.masked


def test_a_quick_examination_is_part_of_a_full_one():
    quick, full = ({turn.name for turn in turns(level)} for level in ("quick", "full"))
    assert len(quick) >= 10 and quick < full


def test_a_check_that_nobody_registered_is_about_attacks_and_its_figure_stands_bare():
    blank = card_of("of_another_version")
    assert (blank.about, blank.any_norm, blank.masked, blank.suspicious) == ("attacks", False, False, False)
    assert figure_text(Check("of_another_version", "warn", 0.25, "")) == "0.25"


def test_a_name_belongs_to_one_function_and_a_check_must_say_what_it_does():
    def enough_images():
        """Warn."""

    def silent(): ...

    with pytest.raises(ValueError, match=r"'enough_images' of .* registered by robust_eval\.checks\.outputs"):
        check(words="images", unit="count")(enough_images)
    with pytest.raises(ValueError, match="'silent': expected a docstring"):
        check(words="images", unit="count")(silent)


def test_the_table_of_checks_in_the_guide_is_made_from_the_cards():
    assert PATH.read_text(encoding="utf-8") == page(), "write it anew, as robust_eval/checks/table.py says"
