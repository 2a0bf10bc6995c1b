"""Says in one line for each problem what pydantic found wrong with the fields of a dataclass."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pydantic

from robust_eval.errors import near

__all__ = ["LONGEST", "explain"]

# pydantic's words for what a TOML file holds
_WORDS = {
    "a valid dictionary": "a table",
    "a valid tuple": "a list",
    "a valid integer": "a whole number",
    "a valid ": "a ",
    "greater than or equal to ": ">= ",
    "greater than ": "> ",
    "less than or equal to ": "<= ",
    "less than ": "< ",
}
LONGEST = 160
"""Characters of a value that a message shows."""


def explain(error: pydantic.ValidationError, cls: type[Any], *, where: str) -> list[str]:
    """Return one line for each problem pydantic found: which field, what was expected, what came."""
    lines = []
    alternatives: dict[str, tuple[list[str], Any]] = {}
    for problem in error.errors(include_url=False):
        short = problem["type"] in ("too_short", "string_too_short")
        if short and problem["input"]:  # what is wrong with the values themselves is told already
            continue
        path, fields = _located(cls, problem["loc"])
        *above, name = path or ["value"]
        place = ": ".join([where, *above])
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            listed = f"has {', '.join(fields)}" if fields else "has no fields"
            lines.append(f"{place}: unknown field {name!r}{near(name, fields)}; it {listed}")
        elif problem["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
            lines.append(f"{place}: field {name!r} is missing")
        else:
            expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            expected = "at least one value" if short else expected.partition(", unable to parse")[0]
            if problem["type"] == "string_unicode":
                expected = "text in UTF-8"
            for theirs, ours in _WORDS.items():
                expected = expected.replace(theirs, ours)
            place = place if name == "value" else f"{place}: {name}"
            alternatives.setdefault(place, ([], problem["input"]))[0].append(expected)
    for place, (wanted, got) in alternatives.items():
        expected = " or ".join(dict.fromkeys(wanted))
        tail = "" if "got " in expected else f", got {_short(got)}"
        expected = expected if expected.startswith("expected") else f"expected {expected}"
        lines.append(f"{place}: {expected}{tail}")
    return lines


def _short(value: Any) -> str:
    """Return a value as it is written, the end of a long one left out."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _located(cls: type[Any], loc: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Return where a problem is, in words, and the fields of the dataclass it is in.

    Places in a list count from 1. Where a field may be one of several types, pydantic ends the place with the
    type it tried: that is left out.
    """
    path: list[str] = []
    fields = [field.name for field in dataclasses.fields(cls)]
    hint: Any = cls
    for part in loc:
        members = [member for member in get_args(hint) if member is not type(None)]
        if get_origin(hint) in (Union, UnionType):
            if len(members) > 1:
                break
            hint = members[0]
            members = [member for member in get_args(hint) if member is not Ellipsis]
        if isinstance(part, int):
            path[-1:] = [f"{path[-1]} {part + 1}"] if path else [str(part + 1)]
            hint = members[0] if members else Any
            continue
        if dataclasses.is_dataclass(hint):
            fields = [field.name for field in dataclasses.fields(hint)]
            hint = get_type_hints(hint).get(part, Any)
        path.append(part)
    return path, fields
