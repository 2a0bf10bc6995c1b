"""Messages say what was expected, what came and the near name."""

from dataclasses import dataclass
from typing import Annotated

import pydantic
import pytest
from pydantic import Field

from robust_eval import attack
from robust_eval.errors import ConfigError, RobustEvalError, UnknownNameError, near
from robust_eval.registry import checked, explain


@checked
@dataclass(frozen=True, kw_only=True)
class Inner:
    width: Annotated[int, Field(ge=1)] = 1


@checked
@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    inner: Inner | None = None
    several: tuple[Inner, ...] = ()
    either: str | dict[str, int] | None = None
    numbers: tuple[float, ...] = ()


def explained(**given):
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(Outer).validate_python(given)
    return explain(caught.value, Outer, where="file")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "file: field 'name' is missing"),
        ({"name": 3}, "file: name: expected a string, got 3"),
        ({"name": "a", "rate": 2}, "file: rate: expected < 1, got 2"),
        ({"name": "a", "rate": float("nan")}, "file: rate: expected a finite number, got nan"),
        ({"name": "a", "inner": {"width": 0}}, "file: inner: width: expected >= 1, got 0"),
        (
            {"name": "a", "inner": {"widht": 2}},
            "file: inner: unknown field 'widht' (did you mean 'width'?); it has width",
        ),
        (
            {"name": "a", "several": [{}, {"width": "x"}]},
            "file: several 2: width: expected a whole number, got 'x'",
        ),
        ({"name": "a", "either": 5}, "file: either: expected a string or a table, got 5"),
        ({"name": "a", "numbers": [1, "b"]}, "file: numbers 2: expected a number, got 'b'"),
        ({"name": "a", "numbers": 1}, "file: numbers: expected a list, got 1"),
    ],
)
def test_each_problem_is_one_line_with_its_place(given, line):
    assert explained(**given) == [line]


def test_all_problems_are_told_at_once():
    assert len(explained(nam="a", rate=-1, several=[{"width": -1}, 4])) == 5


def test_an_unknown_name_lists_the_near_and_the_known_ones():
    message = str(UnknownNameError("attack", "pdg", ["pgd", "cw"]))
    assert message == "unknown attack 'pdg' (did you mean 'pgd'?); known: cw, pgd"
    assert near("pdg", ["pdpgd", "pgd"]) == " (did you mean 'pgd'?)"
    assert near("zzz", ["pgd"]) == ""


def test_errors_of_the_user_share_a_base_and_keep_their_problems():
    assert issubclass(ConfigError, RobustEvalError)
    assert ConfigError(["one", "two"]).problems == ["one", "two"]
    assert str(ConfigError(["one", "two"])) == "one\ntwo"


def test_the_python_api_names_bad_fields():
    with pytest.raises(ConfigError, match=r"attack 'pgd': unknown field 'stesp' \(did you mean 'steps'\?\)"):
        attack("pgd", stesp=3)
    with pytest.raises(ConfigError, match=r"eps: expected >= 0, got -0\.03"):
        attack("pgd", eps=-0.03)
