"""What an engine is told by ``--engine-option NAME=VALUE``: read, and refused in one line where that fails."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from robust_eval.errors import ConfigError, near

__all__ = ["GIGABYTES", "MINUTES", "WORD", "Kind", "count", "engine_options"]


class Kind(NamedTuple):
    """What values an option takes."""

    expected: str
    read: Callable[[str], Any]
    """Raises ``ValueError`` for another."""


def engine_options(engine: str, texts: Iterable[str], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the options by name; raises ``ConfigError`` with a line for each that is wrong."""
    found: dict[str, Any] = {}
    problems = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--engine-option: expected NAME=VALUE, got {text!r}")
        elif name not in kinds:
            known = ", ".join(sorted(kinds))
            problems.append(f"--engine-option: {engine} has no {name!r}{near(name, kinds)}; it has {known}")
        elif name in found:
            problems.append(f"--engine-option {name}: given twice; give it once")
        else:
            try:
                found[name] = kinds[name].read(value)
            except ValueError:
                problems.append(f"--engine-option {name}: expected {kinds[name].expected}, got {value!r}")
    if problems:
        raise ConfigError(problems)
    return found


def count(least: int) -> Kind:
    """Return the kind of whole numbers from ``least`` on."""

    def read(text: str) -> int:
        number = int(text)
        if not least <= number <= 1_000_000:
            raise ValueError(text)
        return number

    return Kind(f"a whole number, {least} or more", read)


def _word(text: str) -> str:
    # it becomes a line of a shell script
    if not re.fullmatch(r"[\w.,:@&|*+/=\[\]-]+", text, re.ASCII):
        raise ValueError(text)
    return text


def _gigabytes(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB|M|G|T)?", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise ValueError(text)
    size = float(found[1]) * {"M": 1 / 1024, "G": 1.0, "T": 1024.0}[(found[2] or "G")[0].upper()]
    if not 1 / 1024 <= size <= 1_000_000:
        raise ValueError(text)
    return size


def _minutes(text: str) -> int:
    if re.fullmatch(r"\d{1,6}", text, re.ASCII):
        minutes = int(text)
    else:
        found = re.fullmatch(r"(?:(\d{1,3})-)?(\d{1,3}):([0-5]\d):([0-5]\d)", text, re.ASCII)
        if found is None:
            raise ValueError(text)
        days, hours, rest, seconds = (int(part or 0) for part in found.groups())
        minutes = math.ceil(1440 * days + 60 * hours + rest + seconds / 60)
    if minutes < 1:
        raise ValueError(text)
    return minutes


WORD = Kind("a word", _word)
GIGABYTES = Kind("gigabytes, such as 16, 16GB or 512MB", _gigabytes)
MINUTES = Kind("minutes, such as 90, or [DAYS-]HOURS:MM:SS", _minutes)
