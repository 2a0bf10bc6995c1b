"""A fitted table as LaTeX: booktabs, names that repeat left out, tables longer than a page as ``longtable``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from reports.formats.tex.cells import Cell, Piece, spelt, width
from reports.formats.tex.escape import escaped
from reports.formats.tex.fonts import BODY, Size
from reports.formats.tex.layout import GAP, Fitted, Number, Numbers, Table, Words

__all__ = ["NEEDS", "table_lines"]

NEEDS = ("booktabs", "amssymb", "array", "longtable", "graphicx")
"""Packages that a table may need."""
_PAGE = 430.0
"""Points of rows that a page takes beside a caption; of more a table is divided between pages."""
_LINE = 9.5
_KEPT = 12
"""Lines of one model that no page divides."""
_SIZES = {BODY: r"\footnotesize", 7: r"\scriptsize"}


def table_lines(fitted: Fitted, *, star: bool = False) -> Iterator[str]:
    """Yield the lines of a table; with ``star`` over both columns of a text that has two."""
    table = fitted.table
    setting = rf"{_SIZES[fitted.size]}\setlength{{\tabcolsep}}{{{GAP:g}pt}}"
    if _height(table, fitted.size) > _PAGE:
        yield from _long(table, fitted.size, setting)
        return
    kind = "table*" if star else "table"
    yield rf"\begin{{{kind}}}"
    yield rf"\setlength{{\belowcaptionskip}}{{4pt}}\caption{{{table.caption}}}"
    yield rf"\label{{tab:{table.label}}}"
    yield rf"\centering{setting}"
    if fitted.loose:
        yield r"\resizebox{\linewidth}{!}{%"
    yield rf"\begin{{tabular}}{{{_spec(table)}}}"
    yield r"\toprule"
    yield from _heads(table, fitted.size)
    yield r"\midrule"
    yield from _rows(table, fitted.size)
    yield r"\bottomrule"
    yield r"\end{tabular}" + ("}" if fitted.loose else "")
    yield rf"\end{{{kind}}}"


def _long(table: Table, size: Size, setting: str) -> Iterator[str]:
    heads = list(_heads(table, size))
    columns = len(table.names) + sum(2 if column.intervals else 1 for column in table.columns)
    yield rf"{{{setting}\setlength{{\LTcapwidth}}{{\linewidth}}"
    yield rf"\begin{{longtable}}{{{_spec(table)}}}"
    yield rf"\caption{{{table.caption}}}\label{{tab:{table.label}}}\\"
    yield from (r"\toprule", *heads, r"\midrule", r"\endfirsthead")
    yield from (r"\toprule", *heads, r"\midrule", r"\endhead")
    yield rf"\midrule\multicolumn{{{columns}}}{{@{{}}l}}{{continued on the next page}}\\"
    yield from (r"\endfoot", r"\bottomrule", r"\endlastfoot")
    yield from _rows(table, size)
    yield r"\end{longtable}}"


def _spec(table: Table) -> str:
    """Return how the columns are aligned."""
    parts = ["l" if name.wrapped is None else _paragraph(name.wrapped) for name in table.names]
    parts += [r"r@{\hspace{2pt}}l" if column.intervals else "r" for column in table.columns]
    last = table.columns[-1] if table.columns else None
    hanging = last.signs if last is not None and not last.intervals else 0
    end = rf"\hspace{{{4 * hanging}pt}}" if hanging else ""
    return f"@{{}}{''.join(parts)}@{{{end}}}"


def _paragraph(points: float) -> str:
    return rf">{{\raggedright\arraybackslash}}p{{{points:g}pt}}"


def _heads(table: Table, size: Size) -> Iterator[str]:
    columns: Sequence[Words | Numbers] = (*table.names, *table.columns)
    if any(column.over for column in table.columns):
        yield from _over(table)
    height = max(len(column.head) for column in columns)
    for line in range(height):
        cells = []
        for column in columns:
            at = line - height + len(column.head)
            text = spelt(column.head[at], size) if at >= 0 else ""
            if isinstance(column, Numbers) and column.intervals:
                text = rf"\multicolumn{{2}}{{r}}{{{text}}}"
            cells.append(text)
        yield _row(cells) + r" \\"


def _over(table: Table) -> Iterator[str]:
    """Yield the headings that columns share, with the rules below them."""
    cells = [""] * len(table.names)
    rules = []
    at = len(table.names) + 1
    for over, same in groupby(table.columns, key=lambda column: column.over):
        columns = list(same)
        wide = sum(2 if column.intervals else 1 for column in columns)
        if over and len(columns) > 1:
            cells.append(rf"\multicolumn{{{wide}}}{{c}}{{{escaped(over)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + wide - 1}}}")
        else:
            cells += [rf"\multicolumn{{{wide}}}{{r}}{{{escaped(over)}}}" if over else ""] + [""] * (
                0 if over else wide - 1
            )
        at += wide
    yield _row(cells) + r" \\"
    if rules:
        yield "".join(rules)


def _rows(table: Table, size: Size) -> Iterator[str]:
    """Yield the rows; a name that the row above has too is left out."""
    blocks = _blocks(table)
    several = any(len(block) > 1 for block in blocks)
    for number, block in enumerate(blocks):
        if number and several and len(table.names) > 1:
            yield r"\addlinespace[2pt]"
        for i in block:
            # a page break would leave rows without their names
            new = not (i - block[0]) % _KEPT
            cells = _name_cells(table, i, size, blank=not new)
            numbers = [_number(column, column.cells[i], size) for column in table.columns]
            last = i == block[-1] or not (i + 1 - block[0]) % _KEPT
            yield _row([*cells, *numbers]) + (r" \\" if last else r" \\*")


def _blocks(table: Table) -> list[list[int]]:
    """Return the rows of each first name."""
    first = table.names[0].cells
    return [list(same) for _, same in groupby(range(table.length), key=lambda i: first[i])]


def _name_cells(table: Table, i: int, size: Size, *, blank: bool) -> list[str]:
    """Return the names of a row, without those of the row above; the last one always."""
    cells = []
    for name in table.names:
        blank = blank and name is not table.names[-1] and name.cells[i] == name.cells[i - 1]
        cells.append("" if blank else spelt(name.cells[i], size, narrow=name.wrapped is not None))
    return cells


def _number(column: Numbers, cell: Number, size: Size) -> str:
    value = spelt(cell.value, size)
    signs = rf"\textsuperscript{{{escaped(cell.signs)}}}" if cell.signs else ""
    if not column.intervals:
        return value + (rf"\rlap{{{signs}}}" if signs else "")
    if column.signs:
        signs = rf"\makebox[{4 * column.signs}pt][l]{{{signs}}}"
    interval: Cell = (Piece(f"({cell.interval})", "small"),) if cell.interval else ()
    return f"{value} & {signs}{spelt(interval, size)}"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells).rstrip()


def _height(table: Table, size: Size) -> float:
    """Return how high the rows are, in points."""
    rows = 0.0
    for i in range(table.length):
        lines = [
            math.ceil(1.15 * width(name.cells[i], size) / name.wrapped)
            for name in table.names
            if name.wrapped is not None
        ]
        rows += _LINE * max(1, *lines, 1)
    return rows
