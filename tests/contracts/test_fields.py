"""What every field that is a number refuses, of every registered method and of what they are wrapped in."""

import dataclasses
from typing import Union, get_args, get_origin, get_type_hints

import pydantic
import pytest

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401
from robust_eval.checks.examination import Examination
from robust_eval.config.experiment import DataTable, Frame, ModelTable
from robust_eval.models.recipe import Recipe
from robust_eval.registry import find, names

KINDS = ("attack", "corruption", "defense", "regularizer", "architecture", "data", "analysis")
CLASSES = {f"{kind} {name}": find(kind, name) for kind in KINDS for name in names(kind)}
CLASSES |= {cls.__name__: cls for cls in (Recipe, DataTable, ModelTable, Frame, Examination)}


def numbers(hint):
    """Return the types in a hint that are numbers."""
    if hint in (int, float):
        return {hint}
    return {found for part in get_args(hint) for found in numbers(part) if get_origin(hint) is not None}


def takes(hint, wanted):
    return hint is wanted or any(takes(part, wanted) for part in get_args(hint))


def is_list(hint):
    return get_origin(hint) is tuple or any(is_list(part) for part in get_args(hint))


FIELDS = {
    f"{called} {field.name}": get_type_hints(cls, include_extras=True)[field.name]
    for called, cls in CLASSES.items()
    for field in dataclasses.fields(cls)
    if field.init and field.name != "recipe"
}
FIELDS = {place: hint for place, hint in FIELDS.items() if numbers(hint)}


def refuses(hint, value):
    wrapped = [value, value, value, value] if is_list(hint) else value
    try:
        pydantic.TypeAdapter(hint, config={"allow_inf_nan": False}).validate_python(wrapped)
    except pydantic.ValidationError:
        return True
    return False


def test_fields_of_all_kinds_are_looked_at():
    assert len(FIELDS) > 150
    assert not refuses(Union[int, None], True)  # noqa: UP007 - what is asked of fields is not true of any number


@pytest.mark.parametrize("place", FIELDS)
def test_a_number_has_a_largest_value_and_true_is_none(place):
    hint = FIELDS[place]
    assert refuses(hint, 10**22)
    assert refuses(hint, 1e22)
    assert refuses(hint, -(10**22))
    assert refuses(hint, float("nan"))
    assert takes(hint, bool) or refuses(hint, True)
