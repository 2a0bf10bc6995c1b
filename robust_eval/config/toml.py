"""TOML as text and as tables: what is too deep, too large or no text is one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from robust_eval.errors import ConfigError
from robust_eval.paths import require_file

__all__ = ["read_toml", "toml"]

LARGEST = 4 << 20
"""Bytes of an experiment file: more is another file."""
DEEPEST = 32
"""Lists and tables in one another; a field needs three."""


def read_toml(path: Path, *, where: str) -> str:
    """Return the text of a file; raises ``ConfigError`` for one that cannot be read or is no text."""
    require_file(path, where=where, wanted="a TOML file", error=ConfigError)
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise ConfigError(
                f"{where}: expected a TOML file of at most {LARGEST >> 20} MiB, got {size / 1e6:.0f} MB"
            )
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where}: cannot be read: expected UTF-8, got something else at byte {error.start}; save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror})") from None


def toml(text: str, *, where: str) -> dict[str, Any]:
    """Return the tables of a text; raises ``ConfigError``."""
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{where}: not valid TOML: lists or tables lie too deep in one another") from None
    except ValueError as error:  # among them a number of more than 4,300 digits
        reason = " ".join(str(error).partition(";")[0].split())
        raise ConfigError(f"{where}: not valid TOML: {reason}") from None
    if _deeper(tables, DEEPEST):
        raise ConfigError(
            f"{where}: expected lists and tables at most {DEEPEST} deep in one another, got deeper ones"
        )
    return tables


def _deeper(value: object, than: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return than < 0 or any(_deeper(item, than - 1) for item in inside)
