"""A table of words, as Markdown, LaTeX and the page spell it out."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Grid"]


class Grid(NamedTuple):
    """A table of words."""

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    """How many columns are names; the others are numbers."""
    figure: str = ""
    """Name of a drawing that belongs below it."""
    folded: bool = False
    """Whether it holds details, which a reader unfolds. LaTeX leaves them out."""
