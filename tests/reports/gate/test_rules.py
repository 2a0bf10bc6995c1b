"""Rules: what can be written, and what is refused with one line that says how to write it."""

import pytest

from reports.gate import parse_rules, read_rules
from reports.gate.named import Named, fits, strength_text
from robust_eval.errors import ConfigError


def least(text):
    return parse_rules(least=[text])[0]


def dropped(text):
    return parse_rules(drops=[text])[0]


def refused(call, *given):
    with pytest.raises(ConfigError) as told:
        call(*given)
    return str(told.value)


def test_shares_and_percentages_are_one_value():
    assert (
        least("pgd@8/255 >= 0.45").value
        == least("pgd@8/255>=45%").value
        == least("pgd@8/255 >= 45 %").value
        == 0.45
    )
    assert dropped("clean 0.01").value == dropped("clean 1%").value == dropped("clean 1 %").value == 0.01
    assert dropped("clean 0").value == 0 and least("clean >= 1.0").value == 1


@pytest.mark.parametrize(
    ("text", "fix"), [("45", "45% or 0.45"), ("1", "1% or 0.01"), ("99.5", "99.5% or 0.995")]
)
def test_a_value_of_an_unclear_scale_is_one_line_with_both_spellings(text, fix):
    for told in (refused(least, f"clean >= {text}"), refused(dropped, f"clean {text}")):
        assert told.endswith(f"got {text}; write {fix}") and "\n" not in told


@pytest.mark.parametrize(
    "text", ["clean >= 101%", "clean >= -0.1", "clean >= 1,5", "clean >= nan", "clean >= 1e400"]
)
def test_what_is_no_share_is_refused(text):
    assert "expected a" in refused(least, text)


def test_a_rule_names_radius_norm_severity_model_and_defense():
    assert least("pgd@8/255 >= 0").named == Named("pgd", at=8 / 255)
    assert least("cw@l2:0.5 >= 0").named == Named("cw", norm="l2", at=0.5)
    assert least("fog@3 >= 0").named == Named("fog", at=3.0)
    assert least("*@* >= 0").named == Named("*", anywhere=True)
    assert least("[my net] clean >= 0").named == Named("clean", "my net", "none")
    assert least("[a + b + mixup] clean >= 0").named == Named("clean", "a + b", "mixup")
    assert least("pgd (steps=10)@8/255 >= 0").named.name == "pgd (steps=10)"


def test_stars_stand_for_letters_and_nothing_else_does():
    assert fits("gaussian_noise", "gaussian_*") and fits("a.b", "a.b") and not fits("axb", "a.b")
    assert fits("net [1]", "net [1]") and not fits("Pgd", "pgd")


def test_a_number_is_written_as_it_is_named():
    text = strength_text("attack", "linf", 8 / 255, None)
    assert text == "linf:8/255" and Named.parse(f"pgd@{text}", of_drop=False).is_at(
        "attack", "linf", 8 / 255, None
    )
    assert (
        strength_text("corruption", "none", None, 3) == "3"
        and strength_text("clean", "none", None, None) == ""
    )


def test_mce_is_an_error_so_that_a_least_value_of_it_is_refused():
    assert dropped("mce 0.01").named.name == "corruptions"
    assert "of which less is better" in refused(least, "mce >= 0.4")


@pytest.mark.parametrize(
    ("call", "text", "told"),
    [
        (least, "pgd@8/255 > 0.4", "a least value is written with >="),
        (least, "pgd@8/255 <= 0.4", "a least value is written with >="),
        (least, "pgd@8/255", "expected a number and its least value"),
        (least, "", "expected a number and its least value"),
        (dropped, "pgd@8/255 >= 0.4", "a drop has no sign of comparison"),
        (dropped, "0.01", "expected a number and the drop"),
        (least, "pgd@8 >= 0.4", ""),
        (least, "pgd@linf:8 >= 0.4", "did you mean '8/255'?"),
        (least, "pgd@lnf:8 >= 0.4", "did you mean 'linf'?"),
        (least, "pgd@eight >= 0.4", "expected a radius such as 8/255"),
        (least, "clean@3 >= 0.4", "clean has neither radius nor severity"),
        (least, "[] clean >= 0.4", "expected a model in the brackets"),
    ],
)
def test_a_mistake_is_one_line(call, text, told):
    if not told:
        assert call(text).named.at == 8
        return
    line = refused(call, text)
    assert told in line and "\n" not in line


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as told:
        parse_rules(least=["a >= 45", "b"], drops=["c"])
    assert len(told.value.problems) == 3


def test_a_file_holds_names_reasons_and_owners(tmp_path):
    path = tmp_path / "gate.toml"
    path.write_text(
        '[gate]\nconfidence = 0.9\nchecks = "warn"\n'
        '[[rule]]\nname = "floor"\nmin = "pgd@8/255 >= 45%"\nreason = "promised"\nowner = "vision"\nmodel = "net*"\n'
        '[[rule]]\nmax_drop = "clean 1%"\ndefense = "none"\nclass = 3\n'
    )
    found = read_rules(path)
    one, two = found.rules
    assert (found.confidence, found.checks) == (0.9, "warn")
    assert (one.name, one.reason, one.owner, one.named.model) == ("floor", "promised", "vision", "net*")
    assert (two.name, two.kind, two.named.defense, two.of_class) == ("clean 1%", "max_drop", "none", "3")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gate]\nconfidense = 0.9\n[[rule]]\nmin = 'clean >= .5'", "(did you mean 'confidence'?)"),
        ("[[rules]]\nmin = 'clean >= .5'", "(did you mean 'rule'?)"),
        ("[[rule]]\nmin = 'clean >= .5'\nowners = 'me'", "(did you mean 'owner'?)"),
        ("[[rule]]\nname = 'x'", "expected min or max_drop, got neither"),
        ("[[rule]]\nmin = 'clean >= .5'\nmax_drop = 'clean 1%'", "got min and max_drop"),
        ("[[rule]]\nmin = 0.5", "min: expected a text, got 0.5"),
        ("[gate]\nconfidence = 95\n[[rule]]\nmin = 'clean >= .5'", "write 0.95"),
        ("[gate]\nchecks = 'off'\n[[rule]]\nmin = 'clean >= .5'", "expected must or warn"),
        ("gate = 3\n[[rule]]\nmin = 'clean >= .5'", "expected a table"),
        ("rule = 3", "expected a text such as"),
        ("", "expected at least one [[rule]]"),
        ("[[rule", "not valid TOML"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_name(tmp_path, text, told):
    path = tmp_path / "gate.toml"
    path.write_text(text)
    line = refused(read_rules, path)
    assert told in line and "gate.toml" in line and "\n" not in line


def test_in_python_a_text_says_its_kind():
    rules = parse_rules(
        ["clean >= 0.9", "min clean >= 0.9", "max-drop clean 1%", {"max-drop": "clean 1%", "owner": "me"}]
    )
    assert [rule.kind for rule in rules] == ["min", "min", "max_drop", "max_drop"]
    assert "got 'clean 0.9'" in refused(parse_rules, ["clean 0.9"])
    assert "got int" in refused(parse_rules, [3])
