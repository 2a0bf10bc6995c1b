"""``name = "all"`` in a table of attacks, corruptions or defenses: one table for each of them, with what it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from robust_eval.config.method_tables import Table
from robust_eval.config.problems import Problems
from robust_eval.errors import near
from robust_eval.methods import Attack
from robust_eval.registry import Kind, find, names

__all__ = ["every"]

_BESIDE = {"attack": {"access", "eps", "norm"}}
"""Fields of a table that are no fields of every method of the kind."""


def every(
    kind: Kind, tables: Sequence[str | Table], problems: Problems, *, among: Sequence[str] | None = None
) -> list[str | Table]:
    """Return the tables with each one named ``all`` replaced by one for every registered method.

    A field goes to the methods that have it. A radius without a norm is one in linf, and goes to the attacks that take
    it; with a norm, attacks that do not know the norm are left out. A method that has a table of its own is not
    repeated. ``among`` are the names to take in place of the registered ones: those of files, which take all fields.
    """
    own = {_name(table) for table in tables}
    found: list[str | Table] = []
    for table in tables:
        if _name(table) != "all":
            found.append(table)
            continue
        fields = (
            {} if isinstance(table, str) else {key: value for key, value in table.items() if key != "name"}
        )
        if among is not None:
            found += [{"name": name, **fields} for name in among if name not in own]
            continue
        classes = {name: find(kind, name) for name in names(kind) if name not in own}
        taken = {field for cls in classes.values() for field in _fields(cls)} | _BESIDE.get(kind, set())
        for field in fields.keys() - taken:
            problems.at(f"{kind} 'all'").add(f"unknown field {field!r}{near(field, taken)}; no {kind} has it")
        for name, cls in classes.items():
            if (fitting := _fitting(kind, cls, fields)) is not None:
                found.append({"name": name, **fitting})
    return found


def _name(table: str | Table) -> Any:
    return table if isinstance(table, str) else table.get("name")


def _fields(cls: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def _fitting(kind: Kind, cls: Any, fields: Table) -> Table | None:
    """Return the fields that a method takes, ``None`` for an attack that does not know their norm."""
    own = _fields(cls)
    fitting = {key: value for key, value in fields.items() if key in own or key == "access"}
    if kind != "attack" or not issubclass(cls, Attack):
        return fitting
    known = cls.norms if "norm" in own else cls.norms[:1]
    if "norm" in fields and (cls.own_units or fields["norm"] not in known):
        return None
    norm = fields.get("norm", "linf")
    fitting.pop("eps", None)
    if "eps" in fields and not cls.own_units and norm in known:
        fitting |= {"eps": fields["eps"], **({"norm": norm} if "norm" in own else {})}
    return fitting
