"""One experiment in two sizes: the file itself is the small one, ``[scale.full]`` says what the full one changes.

A text ``"$NAME"`` stands for the value of that name under ``[values]``, so that what differs between the sizes is
written once:

    [values]                       # small
    few = 10
    [scale.full.values]
    few = 100
    [[train]]
    data = { per_class = "$few" }

Of ``[scale.full]``, fields of ``[values]``, ``[recipe]`` and ``[paper]`` take the place of those of that name; every
other table or list, such as ``[data]`` and ``[[train]]``, takes the place of the whole. What comes out is an experiment
without either table, which says in ``[paper]`` at which size it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from robust_eval.config.paper import SCALES, Scale
from robust_eval.errors import ConfigError, near

__all__ = ["note_changes", "scaled", "sizes"]

MERGED = ("values", "recipe", "paper")
"""Tables whose fields are changed one by one."""


def sizes(tables: Mapping[str, Any]) -> tuple[Scale, ...]:
    """Return the sizes that a file comes in; none where it has one only."""
    return SCALES if "scale" in tables else ()


def scaled(tables: Mapping[str, Any], scale: str | None, *, where: str) -> dict[str, Any]:
    """Return the tables at one size, the small one for ``None``; raises ``ConfigError`` where there is none of it."""
    if scale is not None and scale not in get_args(Scale):
        raise ConfigError(f"--scale: expected small or full, got {scale!r}{near(scale, SCALES)}")
    found = {name: value for name, value in tables.items() if name not in ("scale", "values")}
    values = _table(tables, "values", where)
    paper = found.get("paper")
    if "scale" not in tables:
        made = paper.get("scale") if isinstance(paper, Mapping) else None
        if scale is not None and scale != made:
            told = f"it was made at --scale {made}" if made in SCALES else "it has one size"
            raise ConfigError(
                f"{where}: --scale {scale}: {told}; leave --scale out, or name another experiment"
            )
        return {name: _filled(value, values, where) for name, value in found.items()}
    changes = _table(tables, "scale", where)
    if unknown := sorted(set(changes) - set(SCALES)):
        raise ConfigError(f"{where}: scale: expected tables small and full, got {unknown[0]!r}")
    if "full" not in changes:
        raise ConfigError(f"{where}: scale: expected a table [scale.full], got none")
    size = scale or "small"
    for name, value in _table(changes, size, f"{where}: scale").items():
        merged = name in MERGED and isinstance(value, Mapping)
        before = values if name == "values" else found.get(name)
        new = {**before, **value} if merged and isinstance(before, Mapping) else value
        if name == "values":
            values = new
        else:
            found[name] = new
    found = {name: _filled(value, values, where) for name, value in found.items()}
    if isinstance(found.get("paper"), dict):
        found["paper"]["scale"] = size
    return found


def note_changes(tables: dict[str, Any], fields: Iterable[str]) -> None:
    """Write into ``[paper]``, if there is one, which fields options changed."""
    paper, new = tables.get("paper"), list(fields)
    if isinstance(paper, Mapping) and new:
        before = paper.get("changed")
        tables["paper"] = {**paper, "changed": sorted({*(before if isinstance(before, list) else ()), *new})}


def _table(tables: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where}: {name}: expected a table, got {found!r}")
    return dict(found)


def _filled(value: Any, values: Mapping[str, Any], where: str) -> Any:
    """Return a value with each ``$NAME`` in it replaced; where a file has no ``[values]``, it is a text like others."""
    if isinstance(value, Mapping):
        return {name: _filled(item, values, where) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values, where) for item in value]
    if not (values and isinstance(value, str) and value.startswith("$")):
        return value
    if value[1:] not in values:
        raise ConfigError(
            f"{where}: {value}: expected a name of [values], one of {', '.join(values)}{near(value[1:], values)}"
        )
    return values[value[1:]]
