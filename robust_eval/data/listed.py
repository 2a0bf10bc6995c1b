"""Images and labels listed in a CSV file with a line of column names.

The path's column is called ``path``, ``file``, ``filename``, ``file_name``, ``filepath``, ``image`` or ``img``, the
label's ``label``, ``class``, ``category``, ``target`` or ``y``. A column ``split`` tells ``train`` from ``test``.
Paths start at the folder of the CSV file.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from robust_eval.data._asked import Asked
from robust_eval.data._class_folders import File
from robust_eval.data._contents import Listing
from robust_eval.data._encoded import Encoded, Split, as_asked, split_of
from robust_eval.data._labels import Numbered, numbered
from robust_eval.errors import DataError, near
from robust_eval.paths import is_file, shown

__all__ = ["Listed", "recognised"]

PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "img")
LABELS = ("label", "class", "category", "target", "y")
SEPARATORS = {".csv": ",", ".tsv": "\t"}


def recognised(asked: Asked) -> Listed | None:
    """Return the source of a ``.csv`` or ``.tsv`` file, ``None`` for anything else."""
    if asked.lies != "a file" or asked.path.suffix.lower() not in SEPARATORS:
        return None
    return Listed(**as_asked(asked))


@dataclass(frozen=True)
class Listed(Encoded):
    """A CSV file of paths and labels."""

    def _listing(self, split: Split) -> Listing | None:
        where, rows = f"data {self.path}", self._rows()
        columns = list(rows[0]) if rows else []
        path, label = _column(columns, PATHS, where, "paths"), _column(columns, LABELS, where, "labels")
        # numbered together, so that both splits number the classes alike
        everything = numbered([row[label] for row in rows], where=where, at="row")
        mine = range(len(rows))
        if "split" in columns:
            words = set(split_of(sorted({row["split"] for row in rows}), split))
            mine = [i for i in mine if rows[i]["split"] in words]  # type: ignore[assignment]
        elif split == "train":
            return None
        if not mine:
            if split == "train":
                return None
            raise DataError(f"{where}: expected rows of a split test or val, got none; name one so")
        return self._found([rows[i][path] for i in mine], [i + 1 for i in mine], everything, where)

    def _found(self, texts: Sequence[str], at: Sequence[int], all_: Numbered, where: str) -> Listing:
        folder = self.path.resolve().parent
        files = [File(folder / text, all_.labels[row - 1]) for text, row in zip(texts, at, strict=True)]
        missing = [
            (text, row) for text, row, file in zip(texts, at, files, strict=True) if not is_file(file.path)
        ]
        if missing and not self.skip_unreadable:
            text, row = missing[0]
            raise DataError(
                f"{where}: {len(missing):,} of {len(files):,} files are missing, first {shown(text)!r} in row {row:,}; "
                f"paths start at {shown(folder)}: correct them, or leave out what cannot be read (--skip-unreadable)"
            )
        return Listing(files, all_.classes, all_.names, folder)

    def _rows(self) -> list[dict[str, str]]:
        where = f"data {self.path}"
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, delimiter=SEPARATORS[self.path.suffix.lower()], strict=True)
                reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
                rows = [
                    {k: (v or "").strip() for k, v in row.items() if isinstance(k, str)} for row in reader
                ]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{where}: is no CSV file that can be read ({error}); save it as UTF-8") from None
        if not rows:
            raise DataError(f"{where}: expected a line of column names and rows below it, got no rows")
        return rows


def _column(columns: Sequence[str], known: Sequence[str], where: str, what: str) -> str:
    found = [name for name in known if name in columns]
    if found:
        return found[0]
    close = next((near(name, known) for name in columns if near(name, known)), "")
    raise DataError(
        f"{where}: expected a column of {what} called {', '.join(known[:-1])} or {known[-1]}, got the columns "
        f"{', '.join(map(repr, columns[:8]))}; rename one{close}"
    )
