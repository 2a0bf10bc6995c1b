"""What ``--set NAME.FIELD=VALUE`` and lists of names say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from robust_eval.config.toml import toml
from robust_eval.errors import ConfigError, near
from robust_eval.registry import Kind, find, names

__all__ = [
    "apply_settings",
    "change_tables",
    "settings",
    "split_names",
]


CHANGED = ("data", "recipe")
"""Tables of an experiment that options change."""


def split_names(kind: Kind, text: str) -> list[str]:
    """Return the names in a comma-separated list; ``all`` is every one of the kind that need not be named, ``none``
    and nothing are none.
    """
    given = [name.strip() for name in text.split(",")]
    every = [name for name in names(kind) if not _by_name(kind, name)] if "all" in given else []
    return list(dict.fromkeys([*every, *(name for name in given if name not in ("", "all", "none"))]))


def _by_name(kind: Kind, name: str) -> bool:
    """Whether a method is not among ``all``."""
    return bool(getattr(find(kind, name), "by_name", False))


def settings(given: Iterable[str] | None) -> dict[str, dict[str, Any]]:
    """Return ``NAME.FIELD=VALUE`` options as fields by method name; values are read as TOML, else as text."""
    fields: dict[str, dict[str, Any]] = {}
    for item in given or ():
        target, equals, text = item.partition("=")
        name, dot, field = target.strip().partition(".")
        if not (equals and dot and name and field):
            raise ConfigError(f"--set: expected NAME.FIELD=VALUE such as pgd.steps=100, got {item!r}")
        try:
            value = toml(f"value = {text}", where=f"--set {target.strip()}")["value"]
        except ConfigError as error:
            value = text.strip()
            if " deep" in str(error):
                raise
            if _several_numbers(value):
                raise ConfigError(
                    f"--set {target.strip()}: expected several numbers as a list, [{value}], got {value}; "
                    f"write --set '{target.strip()}=[{value}]'"
                ) from None
        fields.setdefault(name, {})[field] = value
    return fields


def _several_numbers(text: str) -> bool:
    """Whether a text is several numbers with commas between them."""
    parts = text.split(",")
    try:
        return len(parts) > 1 and all(isinstance(float(part), float) for part in parts)
    except ValueError:
        return False


def apply_settings(
    tables: Iterable[dict[str, Any]], fields: dict[str, dict[str, Any]], *, also: Iterable[str] = ()
) -> None:
    """Put the fields into the method tables of their name; raises ``ConfigError`` for a name that none has."""
    tables = list(tables)
    names = {table["name"] for table in tables} | set(also)
    for name, values in fields.items():
        if name not in names:
            listed = ", ".join(sorted(names)) or "none: no attack, corruption or defense was asked for"
            raise ConfigError(
                f"--set {name}: no such method in this run{near(name, names)}{_not_asked_for(name)}; it has {listed}"
            )
        for table in tables:
            if table["name"] == name:
                table.update(values)


def change_tables(tables: dict[str, Any], fields: Mapping[str, Mapping[str, Any]]) -> None:
    """Put fields into ``[data]`` and ``[recipe]`` of an experiment; raises ``ConfigError`` for another table."""
    for name, values in fields.items():
        if name not in CHANGED:
            raise ConfigError(
                f"--set {name}: expected data.FIELD or recipe.FIELD, got {name}; methods are changed in the file"
            )
        table = tables.get(name)
        tables[name] = {**(table if isinstance(table, dict) else {}), **values}


def _not_asked_for(name: str) -> str:
    """Return that a method of this name exists; nothing for a name that none has."""
    kinds: tuple[Kind, ...] = ("attack", "corruption", "defense")
    found = [f"; the {kind} {name} was not asked for" for kind in kinds if name in names(kind)]
    return found[0] if found else ""
