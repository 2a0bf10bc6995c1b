"""The rules of a gate: from options, tables of Python and a TOML file to :class:`Rule`, with all mistakes at once.

    [gate]
    confidence = 0.95                 # judge least values by their lower bound
    checks = "must"                   # or "warn": what a failed trust check does

    [[rule]]
    name = "holds under PGD"
    min = "pgd@8/255 >= 45%"
    reason = "promised to the customer"
    owner = "vision"

    [[rule]]
    max_drop = "worst_case@linf:8/255 0.01"
    class = "*"

A rule is ``min`` or ``max_drop``; the rest may be left out. Values are shares (``0.45``) or percentages (``45%``); a
bare ``45`` or ``1`` could be either and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from reports.gate.named import Named
from robust_eval.config.problems import Problems
from robust_eval.config.toml import read_toml, toml
from robust_eval.errors import ConfigError, near
from robust_eval.paths import shown
from robust_eval.printable import printable

__all__ = [
    "Kind",
    "Rule",
    "Rules",
    "Strictness",
    "parse_rules",
    "read_rules",
    "require_confidence",
    "require_strictness",
    "share",
]

Kind = Literal["min", "max_drop"]
Strictness = Literal["must", "warn"]
_KINDS: tuple[Kind, ...] = ("min", "max_drop")
_TEXTS = ("name", "reason", "owner", "model", "defense", "class")
_KEYS = (*_KINDS, *_TEXTS)
_LONGEST = 1000
_VALUE = r"(?P<value>[-+]?[\d.,]+(?:e[-+]?\d+)?)\s*(?P<percent>%?)"


@dataclass(frozen=True)
class Rule:
    """What a number must keep to."""

    kind: Kind
    named: Named
    value: float
    """The least share, or the largest drop that is allowed."""
    text: str
    """As it was written."""
    name: str
    """What it is called; its text where nobody said."""
    reason: str = ""
    owner: str = ""
    of_class: str | None = None
    """The class, or a pattern of classes, that it is about; ``None`` for all images together."""


class Rules(NamedTuple):
    """The rules, and how they are judged where nobody says otherwise."""

    rules: tuple[Rule, ...]
    confidence: float | None = None
    checks: Strictness | None = None


def read_rules(path: Path) -> Rules:
    """Return the rules of a TOML file; raises ``ConfigError`` with a line for each mistake."""
    where = f"rules {shown(path)}"
    tables = toml(read_toml(path, where=where), where=where)
    problems = Problems(where)
    _require_known(problems, tables, ("gate", "rule"))
    confidence, checks = _settings(problems.at("[gate]"), tables.get("gate", {}))
    given = tables.get("rule", [])
    if isinstance(given, Mapping):  # [rule] instead of [[rule]]
        given = [given]
    rules = _parsed(problems, given if isinstance(given, list) else [given])
    if not rules and not problems.lines:
        problems.add("expected at least one [[rule]] with min or max_drop, got none")
    problems.require_none()
    return Rules(rules, confidence, checks)


def parse_rules(
    given: Iterable[str | Mapping[str, Any]] = (), *, least: Sequence[str] = (), drops: Sequence[str] = ()
) -> tuple[Rule, ...]:
    """Return rules as they are given in Python, texts or tables, and those of ``--min`` and ``--max-drop``.

    Raises ``ConfigError`` with a line for each mistake.
    """
    lines: list[str] = []
    rules = list(_parsed(Problems("rules", lines), list(given)))
    for kind, texts in (("min", least), ("max_drop", drops)):
        option = f"--{kind.replace('_', '-')}"
        for text in texts:
            with Problems(option, lines):
                rules.append(_of_text(cast("Kind", kind), text))
    Problems("rules", lines).require_none()
    return tuple(rules)


def require_confidence(value: Any, *, where: str = "--confidence") -> float:
    """Return a confidence; raises ``ConfigError`` for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.5 <= value < 1:
        hint = f"; write {value / 100:g}" if isinstance(value, int | float) and 50 <= value < 100 else ""
        raise ConfigError(
            f"{where}: expected a probability from 0.5 to below 1, such as 0.95, got {value!r}{hint}"
        )
    return float(value)


def require_strictness(value: Any, *, where: str = "--checks") -> Strictness | None:
    """Return what a failed trust check does, ``None`` where nobody says; raises ``ConfigError`` for another word."""
    if value not in (None, "must", "warn"):
        raise ConfigError(
            f"{where}: expected must or warn, got {value!r}{near(str(value), ('must', 'warn'))}"
        )
    return cast("Strictness | None", value)


def share(text: str, *, example: float = 0.45) -> float:
    """Return the share that a text says, ``0.45`` or ``45%``; what could be either is refused with ``ConfigError``."""
    found = re.fullmatch(_VALUE, text.strip(), re.IGNORECASE)
    spelt = f"a share such as {example:g} or a percentage such as {100 * example:g}%"
    expected = f"expected {spelt}, got {printable(text[:40])}"
    try:
        value = float(found["value"]) if found else float("nan")
    except ValueError:
        value = float("nan")
    if found and found["percent"] and 0 <= value <= 100:
        return value / 100
    whole = found is not None and re.fullmatch(r"\+?0*[1-9]\d*", found["value"]) is not None
    if found and not found["percent"] and not whole and 0 <= value <= 1:
        return value
    bare = found is not None and not found["percent"] and 0 < value <= 100
    raise ConfigError(expected + (f"; write {value:g}% or {value / 100:g}" if bare else ""))


def _settings(problems: Problems, table: Any) -> tuple[float | None, Strictness | None]:
    confidence: float | None = None
    if not isinstance(table, Mapping):
        problems.add(f"expected a table, got {table!r}")
        return None, None
    _require_known(problems, table, ("confidence", "checks"))
    if "confidence" in table:
        with problems:
            confidence = require_confidence(table["confidence"], where="confidence")
    with problems:
        return confidence, require_strictness(table.get("checks"), where="checks")
    return confidence, None


def _parsed(problems: Problems, given: Sequence[Any]) -> tuple[Rule, ...]:
    rules = []
    for number, item in enumerate(given, start=1):
        told = (
            next((item[key] for key in ("name", *_KINDS) if key in item), "")
            if isinstance(item, Mapping)
            else ""
        )
        place = problems.at(
            f"rule {number}" + (f" ({printable(told[:60])})" if told and isinstance(told, str) else "")
        )
        with place:
            if isinstance(item, str):
                rules.append(_of_python(item))
            elif isinstance(item, Mapping):
                rules.append(_of_table(place, {str(k).replace("-", "_"): v for k, v in item.items()}))
            elif isinstance(item, Rule):
                rules.append(item)
            else:
                place.add(
                    f"expected a text such as 'pgd@8/255 >= 0.45' or a table, got {type(item).__name__}"
                )
    return tuple(rules)


def _of_python(text: str) -> Rule:
    """Return a rule of a text that says its kind itself."""
    if found := re.fullmatch(r"\s*max[-_ ]drop\s+(.*)", text, re.DOTALL):
        return _of_text("max_drop", found[1])
    found = re.fullmatch(r"\s*min\s+(.*)", text, re.DOTALL)
    if found is None and ">=" not in text and "≥" not in text:
        raise ConfigError(
            f"expected 'pgd@8/255 >= 0.45' or 'max-drop pgd@8/255 0.01', got {printable(text[:80])!r}"
        )
    return _of_text("min", found[1] if found else text)


def _of_table(problems: Problems, table: Mapping[str, Any]) -> Rule:
    _require_known(problems, table, _KEYS)
    kinds = [kind for kind in _KINDS if kind in table]
    if len(kinds) != 1:
        raise ConfigError(f"expected min or max_drop, got {' and '.join(kinds) or 'neither'}")
    words = {}
    for key in (*kinds, *_TEXTS):
        value = table.get(key)
        if key == "class" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{key}: expected a text, got {value!r}")
        if value is not None and (not value.strip() or len(value) > _LONGEST):
            raise ConfigError(f"{key}: expected a text of 1 to {_LONGEST} letters, got {len(value)}")
        if value is not None:
            words[key] = printable(value.strip())
    rule = _of_text(kinds[0], words[kinds[0]])
    return replace(
        rule,
        named=replace(
            rule.named,
            model=words.get("model", rule.named.model),
            defense=words.get("defense", rule.named.defense),
        ),
        name=words.get("name", rule.name),
        reason=words.get("reason", ""),
        owner=words.get("owner", ""),
        of_class=words.get("class"),
    )


def _of_text(kind: Kind, text: str) -> Rule:
    text = printable(text.strip())
    if len(text) > _LONGEST:
        raise ConfigError(f"expected at most {_LONGEST} letters, got {len(text)}")
    form = r"(?P<what>.*?)\s*(?:>=|≥)\s*" if kind == "min" else r"(?P<what>.*[^\s<>=≤≥])\s+"
    found = re.fullmatch(form + _VALUE, text, re.IGNORECASE)
    if found is None:
        raise ConfigError(_misread(kind, text))
    value = share(found["value"] + found["percent"], example=0.01 if kind == "max_drop" else 0.45)
    return Rule(kind, Named.parse(found["what"], of_drop=kind == "max_drop"), value, text, text)


def _misread(kind: Kind, text: str) -> str:
    if kind == "max_drop":
        more = "; a drop has no sign of comparison" if re.search(r"[<>≤≥]", text) else ""
        return (
            "expected a number and the drop that is allowed, such as 'pgd@8/255 0.01' or 'clean 1%', "
            f"got {text[:80]!r}{more}"
        )
    more = ""
    if re.search(r"<|≤|>(?!=)|(?<![<>])=", text.rpartition(")")[2]):
        more = "; a least value is written with >="
    return (
        "expected a number and its least value, such as 'pgd@8/255 >= 0.45' or 'clean >= 90%', "
        f"got {text[:80]!r}{more}"
    )


def _require_known(problems: Problems, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            problems.add(
                f"unknown key {printable(str(key))!r}{near(str(key), known)}; known: {', '.join(known)}"
            )
