"""How a user wants the main table: its preset, its columns, how wide it may be and whether it has intervals."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robust_eval.errors import ConfigError, UnknownNameError, near

__all__ = ["ARTICLE", "PRESETS", "WIDTHS", "Style"]

ARTICLE = 345 / 72.27
"""Inches of a line of LaTeX's ``article`` in its 10 points."""
WIDTHS = {"article": ARTICLE, "column": 3.25, "text": 6.75}
"""Inches of a line: of an article, of a column of two, and across both."""
PRESETS = ("paper", "robustness", "corruption", "regularizers")
_LEAST, _MOST = 1.5, 20.0
"""Inches between which a table is one."""


@dataclass(frozen=True)
class Style:
    """What was asked of the main table."""

    preset: str = "paper"
    columns: tuple[str, ...] = ()
    """Names of columns, instead of the preset's."""
    width: float = ARTICLE
    """Inches."""
    intervals: bool = False
    both: bool = False
    """Whether it is to stand across both columns of a text that has two."""

    @classmethod
    def of(
        cls,
        preset: str = "paper",
        columns: str | None = None,
        width: str = "article",
        *,
        intervals: bool = False,
    ) -> Style:
        """Read what a user wrote; raises ``ConfigError`` for a preset or a width that does not exist."""
        if preset not in PRESETS:
            raise UnknownNameError("preset", preset, PRESETS)
        named = () if columns is None else _split(columns)
        return cls(preset, named, _inches(width), intervals, width.strip() == "text")


def _split(columns: str) -> tuple[str, ...]:
    """Return the names between commas, apart from those within brackets: ``pgd (steps=10, restarts=2) linf 8/255``."""
    names = [" ".join(name.split()) for name in re.split(r",(?![^()]*\))", columns)]
    named = tuple(dict.fromkeys(name for name in names if name))
    if not named:
        raise ConfigError(
            f"columns: expected names between commas such as clean,linf,corruptions, got {columns!r}"
        )
    return named


def _inches(width: str) -> float:
    text = width.strip()
    if text in WIDTHS:
        return WIDTHS[text]
    try:
        inches = float(text.removesuffix("in"))
    except ValueError:
        inches = float("nan")
    if not _LEAST <= inches <= _MOST:
        raise ConfigError(
            f"width: expected column, text, article or inches from {_LEAST:g} to {_MOST:g}, got {width!r}"
            f"{near(text, WIDTHS)}"
        )
    return inches
