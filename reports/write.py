"""Writes a report: every file whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reports.figures import TITLES, figures, svg
from reports.formats.html import page
from reports.formats.latex import latex
from reports.formats.markdown import markdown
from reports.sections import analyses as _analyses
from reports.sections.agreement import Agreement, terminal
from reports.sections.classes import class_table
from reports.sections.contents import sections
from reports.sections.corruptions import in_words
from reports.sections.sheet import png
from reports.sections.trust import doubts_in_words, speaking
from robust_eval.files import atomic_path, write_text
from robust_eval.results.load import load

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Report", "write"]


SHEET = "corruptions.png"


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
    looks: tuple[_analyses.Look, ...] = ()
    """Analyses: what models do beyond how often they are right."""
    doubts: tuple[str, ...] = ()
    """One line for each check that warns or fails on a model, with the number of records it stands beside."""

    def agreement(self) -> RenderableType | None:
        """Return the table of those for a terminal, if there are any."""
        return terminal(self.agreements) if self.agreements else None

    def analyses(self) -> RenderableType | None:
        """Return the numbers of the analyses for a terminal, if there are any."""
        return _analyses.terminal(self.looks) if self.looks else None


def write(folders: Sequence[Path], out: Path, *, baseline: str | None = None) -> Report:
    """Write results.csv, classes.csv, table.md, table.tex, index.html, figures/*.svg and corruptions.png.

    ``folders`` are one or several runs. ``baseline`` is the model that corruption errors are divided by (mCE). Raises
    ``DataError`` for a folder that holds no records, and for a baseline that is in none of them.
    """
    loaded = load(folders)
    parts = sections(loaded, baseline=baseline)
    drawn = {name: svg(chart) for name, chart in figures(loaded.results).items()}
    found = _analyses.looks(loaded.analyses)
    charts = _analyses.drawings(found)
    drawn |= {name: svg(chart) for name, (_, chart) in charts.items()}
    classes = class_table(loaded.entries)
    texts = {
        "results.csv": loaded.results.to_csv(index=False, lineterminator="\n"),
        **({} if classes is None else {"classes.csv": classes.to_csv(index=False, lineterminator="\n")}),
        "table.md": markdown(parts),
        "table.tex": latex(parts),
        **{f"figures/{name}.svg": drawing for name, drawing in drawn.items()},
        "index.html": page(
            parts, loaded.entries, drawn, {name: title for name, (title, _) in charts.items()}
        ),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    if parts.sheets:
        with atomic_path(out / SHEET) as temporary:
            temporary.write_bytes(png(parts.sheets))
    for name in {"classes.csv", *([] if parts.sheets else [SHEET])} - set(texts):
        (out / name).unlink(missing_ok=True)
    for path in (out / "figures").glob("analysis_*.svg"):
        if path.stem not in drawn:
            path.unlink()
    for name in set(TITLES) - set(drawn):
        (out / "figures" / f"{name}.svg").unlink(missing_ok=True)  # of an earlier report with other records
    names = (*texts, *([SHEET] if parts.sheets else []))
    doubts = tuple(doubts_in_words(speaking(loaded)))
    return Report(
        loaded.results,
        out,
        tuple(out / name for name in names),
        agreements=parts.agreements,
        corruption_errors=tuple(in_words(parts.corruption_errors)),
        looks=tuple(found),
        doubts=doubts,
    )
