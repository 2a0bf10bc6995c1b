"""Writes a report: every file whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reports.bodies import Chart, Sheets
from reports.figures import TITLES, svg
from reports.formats.html import page
from reports.formats.interactive import bundle, embedded
from reports.formats.latex import latex
from reports.formats.markdown import markdown
from reports.formats.terminal import agreement_table, analysis_tables
from reports.pictures import png
from reports.section import Source
from reports.sections.agreement import Agreement, agreements
from reports.sections.analyses import Look, looks
from reports.sections.classes import class_table
from reports.sections.contents import contents
from reports.sections.corruption_errors import in_words
from reports.sections.trust import doubts_in_words, speaking
from robust_eval.errors import DataError
from robust_eval.files import write_together
from robust_eval.results.load import load

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Report", "write"]


SHEET = "corruptions.png"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


@dataclass(frozen=True)
class Report:
    """What was written."""

    results: pd.DataFrame
    """The long table, as in results.csv."""
    out: Path
    files: tuple[Path, ...]
    agreements: tuple[Agreement, ...] = ()
    """Our attacks beside those of other libraries, where both were run."""
    corruption_errors: tuple[str, ...] = ()
    """Mean error under corruptions, and mCE against the baseline: one line for each model and defense."""
    looks: tuple[Look, ...] = ()
    """Analyses: what models do beyond how often they are right."""
    doubts: tuple[str, ...] = ()
    """One line for each check that warns or fails on a model, with the number of records it stands beside."""
    left_out: tuple[str, ...] = ()
    """One line for each record that could not be believed."""

    def agreement(self) -> RenderableType | None:
        """Return the table of those for a terminal, if there are any."""
        return agreement_table(self.agreements) if self.agreements else None

    def analyses(self) -> RenderableType | None:
        """Return the numbers of the analyses for a terminal, if there are any."""
        return analysis_tables(self.looks) if self.looks else None


def write(folders: Sequence[Path], out: Path, *, baseline: str | None = None) -> Report:
    """Write results.csv, classes.csv, table.md, table.tex, index.html, figures/*.svg and corruptions.png.

    ``folders`` are one or several runs. ``baseline`` is the model that corruption errors are divided by (mCE). Raises
    ``DataError`` for a folder that holds no records, and for a baseline that is in none of them.
    """
    if out.is_symlink():
        raise DataError(
            f"{out}: expected a folder to write the report into, got a link; remove it, or give another"
        )
    loaded = load(folders)
    parts = contents(Source(loaded, baseline, tuple(folders)))
    bodies = [section.body for section in parts]
    charts = [body for body in bodies if isinstance(body, Chart)]
    drawn = {chart.name: svg(chart.drawing) for chart in charts}
    alive = {chart.name: embedded(chart) for chart in charts}
    sheets = [sheet for body in bodies if isinstance(body, Sheets) for sheet in body.sheets]
    classes = class_table(loaded.entries)
    texts: dict[str, str | bytes] = {
        "results.csv": _csv(loaded.results),
        **({} if classes is None else {"classes.csv": _csv(classes)}),
        "table.md": markdown(parts),
        "table.tex": latex(parts),
        **{f"figures/{name}.svg": drawing for name, drawing in drawn.items()},
        "index.html": page(parts, loaded.entries, drawn, alive, bundle() if alive else ""),
    }
    if sheets:
        texts[SHEET] = png(sheets)
    write_together(out, texts)
    for name in {"classes.csv", SHEET} - set(texts):
        (out / name).unlink(missing_ok=True)
    for path in (out / "figures").glob("analysis_*.svg"):
        if path.stem not in drawn:
            path.unlink()
    for name in set(TITLES) - set(drawn):
        (out / "figures" / f"{name}.svg").unlink(missing_ok=True)  # of an earlier report with other records
    doubts = tuple(doubts_in_words(speaking(loaded)))
    return Report(
        loaded.results,
        out,
        tuple(out / name for name in texts),
        agreements=tuple(agreements(loaded.entries)),
        corruption_errors=tuple(in_words(parts)),
        looks=tuple(looks(loaded.analyses)),
        doubts=doubts,
        left_out=loaded.left_out,
    )


def _csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV in which no text is a formula to a spreadsheet."""
    words = frame.select_dtypes(exclude="number").columns
    defused = frame.assign(**{name: frame[name].map(_defused) for name in words})
    return defused.to_csv(index=False, lineterminator="\n")


def _defused(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
