"""Other names for models in a whole report: the old ones are what the tables call them."""

from __future__ import annotations

import csv
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from robust_eval.errors import ConfigError, near
from robust_eval.printable import printable
from robust_eval.results.entry import Entry
from robust_eval.results.load import Loaded

__all__ = ["read_names", "renamed"]

_LARGEST = 1 << 20
"""Bytes of a file of names."""


def read_names(path: Path) -> dict[str, str]:
    """Return new names by old ones, from TOML (``old = "new"``) or CSV (two columns; a first line ``old,new`` is its
    heading); raises ``ConfigError`` for any other file.
    """
    try:
        if not path.is_file():
            raise ConfigError(
                f"rename: expected a .toml or .csv file of names, got {path}; there is no such file"
            )
        if path.stat().st_size > _LARGEST:
            raise ConfigError(
                f"rename: expected names of models, got {path} of {path.stat().st_size:,} bytes"
            )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"rename: cannot read {path} as text: {error}") from error
    pairs = _csv(path, text) if path.suffix.lower() == ".csv" else _toml(path, text)
    found: dict[str, str] = {}
    for old, new in pairs:
        if old in found:
            raise ConfigError(f"rename: {path}: {old!r} is named twice; keep one")
        if not new.strip():
            raise ConfigError(f"rename: {path}: expected a new name of {old!r}, got nothing")
        found[old] = printable(new.strip())
    return found


def renamed(loaded: Loaded, names: Mapping[str, str]) -> Loaded:
    """Return what was loaded with models by their new names.

    Raises ``ConfigError`` for a model that is not there, and where two would share a name.
    """
    known = list(dict.fromkeys(loaded.results["model"]))
    problems = [
        f"rename: no model is called {old!r}{near(old, known)}; there are: {', '.join(known)}"
        for old in names
        if old not in known
    ]
    of = {old: names.get(old, old) for old in known}
    for new, count in Counter(of.values()).items():
        if count > 1:
            same = " and ".join(repr(old) for old in known if of[old] == new)
            problems.append(f"rename: {same} would both be called {new!r}; give each a name of its own")
    if problems:
        raise ConfigError(problems)

    def entries(given: Iterable[Entry]) -> tuple[Entry, ...]:
        return tuple(
            replace(
                entry, labels={**entry.labels, "model": of.get(entry.labels["model"], entry.labels["model"])}
            )
            for entry in given
        )

    return replace(
        loaded,
        results=loaded.results.assign(model=loaded.results["model"].map(of)),
        entries=entries(loaded.entries),
        examinations=entries(loaded.examinations),
        analyses=entries(loaded.analyses),
        failed=tuple({**item, "model": of.get(item["model"], item["model"])} for item in loaded.failed),
    )


def _toml(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'rename: {path} is no TOML: {error}; write "old" = "new" on each line') from error
    for old, new in table.items():
        if not isinstance(new, str):
            raise ConfigError(
                f"rename: {path}: expected a text as the new name of {old!r}, got {new!r}; quote names with dots"
            )
    return list(table.items())


def _csv(path: Path, text: str) -> list[tuple[str, str]]:
    pairs = []
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["old", "new"]):
            continue
        if len(row) != 2:
            raise ConfigError(f"rename: {path}, line {number}: expected old,new, got {len(row)} columns")
        pairs.append((row[0].strip(), row[1]))
    return pairs
