"""``report.tex``: a document that compiles as it is, from the main table, the further ones and the figures.

It needs Debian's ``texlive-latex-recommended`` and ``lmodern``. Tables stand where they are named; in a paper, which
inputs their files, they float.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.bodies import Answer, Chart, Facts
from reports.formats.tex.cells import spelt, threat
from reports.formats.tex.escape import escaped
from reports.formats.tex.main import main_tex
from reports.formats.tex.spelling import NEEDS
from reports.formats.tex.tables import WIDTH, Further, further
from reports.paper import Main
from reports.paper.style import WIDTHS
from reports.section import Section

__all__ = ["MADE", "tex_files"]

MADE = "% made by robust-eval report"
"""The first line of each file, by which those of an earlier report are known."""


def tex_files(contents: Sequence[Section], main: Main | None) -> dict[str, str]:
    """Return the files by their names within the report."""
    tables = further(contents)
    text = "% nothing was measured\n" if main is None else main_tex(main)
    found = {
        "table.tex": text,
        **{f"tables/{table.name}.tex": table.text for table in tables},
        "report.tex": "\n".join(_document(contents, main, tables)) + "\n",
    }
    return {name: f"{MADE}\n{content}" for name, content in found.items()}


def _document(contents: Sequence[Section], main: Main | None, tables: Sequence[Further]) -> Iterator[str]:
    width = max(WIDTH / 72.27, 0.0 if main is None else main.style.width)
    yield from (
        r"\documentclass[10pt]{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{lmodern}",
        rf"\usepackage[paperwidth={width + 1.75:.2f}in,paperheight=11.69in,textwidth={width:.2f}in,"
        r"textheight=9.7in]{geometry}",
        rf"\usepackage{{{','.join(NEEDS)},float}}",
        r"\usepackage[font=small]{caption}",
        r"\floatplacement{table}{H}",
        r"\floatplacement{figure}{H}",
        r"\setlength{\emergencystretch}{3em}",
        r"\setlength{\parindent}{0pt}",
        r"\title{Robustness report}",
        r"\author{}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
    )
    for answer in (section.body for section in contents if isinstance(section.body, Answer)):
        yield r"\section{What was asked}"
        yield from (spelt(threat(text)) + "\n" for text in answer.asked)
        if answer.sentences:
            yield from (r"\section{Answer}", r"\begin{itemize}")
            yield from (rf"\item {spelt(threat(text))}" for text in answer.sentences)
            yield r"\end{itemize}"
    if main is not None:
        yield r"\input{table.tex}"
    if tables:
        yield r"\section{Further tables}"
    title = ""
    for table in tables:
        if table.title != title:
            yield rf"\subsection{{{escaped(table.title)}}}"
            title = table.title
        yield rf"\input{{tables/{table.name}.tex}}"
    yield from _figures(contents, width)
    yield from _provenance(contents)
    yield r"\end{document}"


def _figures(contents: Sequence[Section], width: float) -> Iterator[str]:
    charts = [section.body for section in contents if isinstance(section.body, Chart)]
    if not charts:
        return
    yield r"\section{Figures}"
    for chart in charts:
        # stretched beyond a column its letters would outgrow those of the text
        wide = width if chart.wide else min(width, WIDTHS["column"])
        yield from (
            rf"\IfFileExists{{figures/{chart.name}.pdf}}{{\begin{{figure}}\centering",
            rf"\includegraphics[width={wide:.2f}in,height=0.8\textheight,keepaspectratio]{{figures/{chart.name}.pdf}}",
            rf"\caption{{{spelt(threat(chart.caption))}}}\label{{fig:{chart.name.replace('_', '-')}}}",
            r"\end{figure}}{}",
        )


def _provenance(contents: Sequence[Section]) -> Iterator[str]:
    for facts in (section.body for section in contents if isinstance(section.body, Facts)):
        yield r"\section{Provenance}"
        yield r"{\footnotesize\begin{description}"
        yield from (rf"\item[{{{escaped(name)}}}] {escaped(value)}" for name, value in facts.pairs)
        yield r"\end{description}}"
