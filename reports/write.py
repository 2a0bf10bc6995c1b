"""Writes a report: every file whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reports.bodies import GALLERY, Answer, Chart, Gallery, Sheets
from reports.charts.bundle import bundle
from reports.charts.drawing import files, svg
from reports.charts.figure import PATTERNS
from reports.charts.spec import embedded
from reports.exports import clear, exported, log, require_exports, require_own
from reports.exports.signature import private_key
from reports.formats.answer_json import answer_json
from reports.formats.answer_table import answer_table
from reports.formats.html import page
from reports.formats.markdown import markdown
from reports.formats.spreadsheet import csv
from reports.formats.terminal import agreement_table, analysis_tables
from reports.formats.tex import MADE, tex_files
from reports.formats.tex.main import left_out
from reports.gallery_sheet import gallery_png
from reports.paper import Style, main_table
from reports.pictures import png
from reports.rename import read_names, renamed
from reports.section import Source
from reports.sections.agreement import Agreement, agreements
from reports.sections.analyses import Look, looks
from reports.sections.beside import in_words as runs_in_words
from reports.sections.classes import class_table
from reports.sections.contents import contents
from reports.sections.corruption_errors import in_words
from reports.sections.paper_said import in_words as paper_in_words
from reports.sections.paper_said import paper_table
from reports.sections.trust import doubts_in_words, speaking
from robust_eval.errors import DataError
from robust_eval.files import write_together
from robust_eval.results.load import load

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Report", "write"]


PAPER = "paper.csv"
SHEET = "corruptions.png"


@dataclass(frozen=True)
class Report:
    """What was written."""

    results: pd.DataFrame
    """The long table, as in results.csv."""
    out: Path
    files: tuple[Path, ...]
    answer: Answer
    """What the report says first."""
    runs: tuple[str, ...]
    """The names of the runs, in the order given."""
    beside: tuple[str, ...] = ()
    """How much the runs share and do not, one line for each pair of them."""
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
    paper: tuple[str, ...] = ()
    """How many numbers of a published table agree: one line for each run that makes one again."""
    told: tuple[str, ...] = ()
    """What is to be known of the exports, one line each."""
    not_fitting: tuple[str, ...] = ()
    """Columns that the main table of a paper has no room for."""

    def first(self, *, width: int = 120) -> RenderableType:
        """Return the answer for a terminal of ``width`` columns."""
        return answer_table(self.answer, width=width)

    def data(self) -> str:
        """Return the answer as JSON (:mod:`reports.formats.answer_json`)."""
        return answer_json(self.answer, runs=self.runs, report=self.out)

    def agreement(self) -> RenderableType | None:
        """Return the table of those for a terminal, if there are any."""
        return agreement_table(self.agreements) if self.agreements else None

    def analyses(self) -> RenderableType | None:
        """Return the numbers of the analyses for a terminal, if there are any."""
        return analysis_tables(self.looks) if self.looks else None


def write(
    folders: Sequence[Path],
    out: Path,
    *,
    baseline: str | None = None,
    exports: Sequence[str] = (),
    style: Style = Style(),  # noqa: B008 - frozen
    names: Path | None = None,
    evidence: bool = False,
    sign: Path | None = None,
) -> Report:
    """Write results.csv, classes.csv, paper.csv, table.md, table.tex, tables/*.tex, report.tex, index.html,
    figures/*.svg, figures/*.pdf, corruptions.png, gallery.png and the card.

    ``folders`` are one or several runs. ``baseline`` is the model that corruption errors are divided by (mCE),
    ``exports`` names what else is written (:mod:`reports.exports`), ``style`` how the main table of a paper is to be,
    ``names`` a file of new names for models, ``sign`` a private key that the card is signed with; with ``evidence`` a
    page of evidence is written, too. Raises ``DataError`` for a folder that holds no records, and for a
    baseline that is in none of them; ``ConfigError`` for names and columns that are not there.
    """
    require_exports(exports)
    key = None if sign is None else private_key(sign)
    if out.is_symlink():
        raise DataError(
            f"{out}: expected a folder to write the report into, got a link; remove it, or give another"
        )
    require_own(out)
    loaded = load(folders)
    if names is not None:
        loaded = renamed(loaded, read_names(names))
    source = Source(loaded, baseline, tuple(folders))
    parts = contents(source)
    main = main_table(source, parts, style)
    bodies = [section.body for section in parts]
    figures = [body for body in bodies if isinstance(body, Chart)]
    drawn = {figure.name: svg(figure.drawing) for figure in figures}
    alive = {figure.name: embedded(figure) for figure in figures}
    sheets = [sheet for body in bodies if isinstance(body, Sheets) for sheet in body.sheets]
    albums = [album for body in bodies if isinstance(body, Gallery) for album in body.albums]
    classes, published = class_table(loaded.entries), paper_table(source)
    texts: dict[str, str | bytes] = {
        "results.csv": csv(loaded.results),
        **({} if classes is None else {"classes.csv": csv(classes)}),
        **({} if published is None else {PAPER: csv(published)}),
        "table.md": markdown(parts),
        **tex_files(parts, main),
        **{f"figures/{name}": text for figure in figures for name, text in files(figure).items()},
        "index.html": page(parts, loaded.entries, drawn, alive, bundle() if alive else ""),
    }
    if sheets:
        texts[SHEET] = png(sheets)
    if albums:
        texts[GALLERY] = gallery_png(albums)
    made = exported(exports, source, folders, with_evidence=evidence, key=key)
    texts |= made.files
    write_together(out, texts)
    clear(out, made.files)
    told = made.told + log(made, out)
    for name in {"classes.csv", PAPER, SHEET, GALLERY} - set(texts):
        (out / name).unlink(missing_ok=True)
    # of an earlier report with other records
    for old in {path for name in PATTERNS for path in (out / "figures").glob(f"{name}.*")}:
        if old.suffix in (".svg", ".pdf") and old.stem not in drawn:
            old.unlink()
    for path in (out / "tables").glob("*.tex"):
        if f"tables/{path.name}" not in texts and _ours(path):
            path.unlink()
    doubts = tuple(doubts_in_words(speaking(loaded)))
    return Report(
        loaded.results,
        out,
        tuple(out / name for name in texts),
        next(body for body in bodies if isinstance(body, Answer)),
        loaded.runs,
        tuple(runs_in_words(parts)),
        agreements=tuple(agreements(loaded.entries)),
        corruption_errors=tuple(in_words(parts)),
        looks=tuple(looks(loaded.analyses)),
        doubts=doubts,
        left_out=loaded.left_out,
        paper=paper_in_words(source),
        told=told,
        not_fitting=() if main is None else tuple(left_out(main)),
    )


def _ours(path: Path) -> bool:
    """Whether a table was written by a report, and not by whoever writes the paper."""
    return path.read_text(encoding="utf-8", errors="replace").startswith(MADE)
