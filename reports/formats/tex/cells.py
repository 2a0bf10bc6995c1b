"""What stands in a cell of a LaTeX table: pieces of text that know how they are set and how wide they are."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from reports.formats.tex.escape import PIECE, escaped
from reports.formats.tex.fonts import BODY, SMALL, Size, width_of

__all__ = ["Cell", "Piece", "head_lines", "narrowest", "plain", "spelt", "threat", "width"]

_NORMS = {"linf": r"$\ell_\infty$", "l2": r"$\ell_2$", "l1": r"$\ell_1$", "l0": r"$\ell_0$"}
_NORM = 1.35
"""Width of one of them in ems."""
_RAISED = 3.6
"""Points of a raised sign."""
_HEAD = 62.0
"""Points that a line of a heading may take before it is broken."""


class Piece(NamedTuple):
    """A piece of text."""

    text: str
    kind: Literal["plain", "bold", "small", "raised", "norm"] = "plain"


Cell = tuple[Piece, ...]


def plain(text: str) -> Cell:
    """Return a cell of words."""
    return (Piece(text),) if text else ()


def threat(text: str) -> Cell:
    """Return words in which norms are written as in a paper."""
    parts = re.split(r"\b(linf|l2|l1|l0)\b", text)
    return tuple(Piece(part, "norm" if part in _NORMS else "plain") for part in parts if part)


def spelt(cell: Cell, size: Size = BODY, *, narrow: bool = False) -> str:
    """Return it as LaTeX, for a table of this size."""
    return "".join(_spelt(piece, size, narrow) for piece in cell)


def narrowest(cell: Cell, size: Size = BODY) -> float:
    """Return the width of what cannot be broken in it."""
    return max(
        (width((Piece(piece.text.strip(" "), piece.kind),), size) for piece in _words(cell)), default=0.0
    )


def width(cell: Cell, size: Size = BODY) -> float:
    """Return its width in points."""
    return sum((_width(piece, size) for piece in cell), 0.0)


def head_lines(cell: Cell, size: Size = BODY) -> tuple[Cell, ...]:
    """Return a heading as lines that are not wide, broken at spaces and signs, and through words if need be."""
    lines: list[Cell] = [()]
    for piece in _words(cell):
        together = (*lines[-1], piece)
        if lines[-1] and width(together, size) > _HEAD:
            lines.append((Piece(piece.text.lstrip(" "), piece.kind),))
        else:
            lines[-1] = together
    return tuple(_stripped(line) for line in lines)


def _words(cell: Cell) -> list[Piece]:
    """Return pieces that nothing breaks; a norm takes the radius behind it along."""
    found: list[Piece] = []
    for piece in cell:
        if piece.kind == "norm":
            found.append(piece)
            continue
        for word in re.findall(r" ?[^ _(,=]*[_(,=]?", piece.text):
            found += [Piece(word[i : i + PIECE], piece.kind) for i in range(0, len(word), PIECE)]
    return [piece for piece in found if piece.text]


def _stripped(line: Cell) -> Cell:
    if line and line[0].kind == "plain":
        return (Piece(line[0].text.lstrip(" ")), *line[1:])
    return line


def _spelt(piece: Piece, size: Size, narrow: bool) -> str:
    # the spaces at the ends of a piece are between pieces
    before = " " if piece.text.startswith(" ") else ""
    after = " " if piece.text.endswith(" ") and piece.text.strip() else ""
    text = before + escaped(piece.text, narrow=narrow) + after
    match piece.kind:
        case "plain":
            return text
        case "bold":
            return rf"\textbf{{{text}}}"
        case "small":
            return rf"{{\scriptsize {text}}}" if size == BODY else text
        case "raised":
            return rf"\textsuperscript{{{text}}}"
        case "norm":
            return _NORMS[piece.text]


def _width(piece: Piece, size: Size) -> float:
    match piece.kind:
        case "plain" | "bold":
            spaces = len(piece.text) - len(piece.text.strip(" "))
            return width_of(piece.text, size, bold=piece.kind == "bold") + spaces * 0.36 * size
        case "small":
            return width_of(piece.text, SMALL) + 2.5
        case "raised":
            return _RAISED * len(piece.text)
        case "norm":
            return _NORM * size
