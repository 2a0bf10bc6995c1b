"""Writes a report: every file whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reports._latex import latex
from reports._markdown import markdown
from reports._sections import sections
from reports._trust import doubts_in_words, speaking
from reports.agreement import Agreement, terminal
from reports.figures import TITLES, figures, svg
from reports.html import page
from reports.load import load
from robust_eval.store import write_text

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Report", "write"]


@dataclass(frozen=True)
class Report:
    """What was written."""

    results: pd.DataFrame
    """The long table, as in results.csv."""
    out: Path
    files: tuple[Path, ...]
    agreements: tuple[Agreement, ...] = ()
    """Our attacks beside those of other libraries, where both were run."""
    doubts: tuple[str, ...] = ()
    """One line for each check that warns or fails on a model, with the number of records it stands beside."""

    def agreement(self) -> RenderableType | None:
        """Return the table of those for a terminal, if there are any."""
        return terminal(self.agreements) if self.agreements else None


def write(folders: Sequence[Path], out: Path) -> Report:
    """Write results.csv, table.md, table.tex, index.html and figures/*.svg for one or several run folders.

    Raises ``DataError`` for a folder that holds no records.
    """
    loaded = load(folders)
    parts = sections(loaded)
    drawn = {name: svg(chart) for name, chart in figures(loaded.results).items()}
    texts = {
        "results.csv": loaded.results.to_csv(index=False, lineterminator="\n"),
        "table.md": markdown(parts),
        "table.tex": latex(parts),
        **{f"figures/{name}.svg": drawing for name, drawing in drawn.items()},
        "index.html": page(parts, loaded.entries, drawn),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    for name in set(TITLES) - set(drawn):
        (out / "figures" / f"{name}.svg").unlink(missing_ok=True)  # of an earlier report with other records
    doubts = tuple(doubts_in_words(speaking(loaded)))
    return Report(loaded.results, out, tuple(out / name for name in texts), parts.agreements, doubts)
