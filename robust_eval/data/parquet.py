"""Parquet files of encoded images and labels: one file, or a folder of them as the Hugging Face hub has it.

In a folder the names say the split: ``train-00000-of-00002.parquet``, ``test-...``, ``validation-...``, in the folder
itself or one level below it. The encoded images are held in memory, which is a tenth of what their pixels take.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from robust_eval.data._asked import Asked
from robust_eval.data._contents import Listing
from robust_eval.data._encoded import Encoded, Split, as_asked, split_of
from robust_eval.data._rows import DAMAGED, listing, readable_columns
from robust_eval.errors import DataError

__all__ = ["Parquet", "recognised"]


def recognised(asked: Asked) -> Parquet | None:
    """Return the source of a Parquet file or of a folder that holds some, ``None`` for anything else."""
    file = asked.lies == "a file" and asked.path.suffix.lower() == ".parquet"
    if not file and not (asked.lies == "a folder" and _files(asked.path)):
        return None
    return Parquet(**as_asked(asked))


@dataclass(frozen=True)
class Parquet(Encoded):
    """A Parquet file, or several in a folder."""

    def _listing(self, split: Split) -> Listing | None:
        where, files = f"data {self.path}", _files(self.path)
        if not files:  # a single file is what is measured, whatever it is called
            return self._read([self.path], where) if split == "test" else None
        names = split_of([file.name for file in files], split)
        chosen = [file for file in files if file.name in names]
        if not chosen and split == "test":
            raise DataError(
                f"{where}: expected files test-*.parquet or validation-*.parquet, got {files[0].name} and other "
                "training images; name the file to measure on them"
            )
        return self._read(chosen, where) if chosen else None

    def _read(self, files: list[Path], where: str) -> Listing:
        tables: list[pa.Table] = []
        for file in files:
            try:
                schema = pq.read_schema(file)
                tables.append(
                    pq.read_table(file, columns=[*readable_columns(schema, where)], partitioning=None)
                )
            except DataError:
                raise
            except DAMAGED as error:
                raise DataError(
                    f"data {file}: is no Parquet file or is damaged ({_first_line(error)}); fetch or save it again"
                ) from None
        try:
            return listing(pa.concat_tables(tables), self.path, where)
        except pa.ArrowInvalid:
            raise DataError(
                f"{where}: expected files of the same columns, got others in {files[-1].name}; save them alike"
            ) from None


def _files(path: Path) -> list[Path]:
    """Return the Parquet files in a folder or one level below it, sorted."""
    try:
        here = sorted(path.glob("*.parquet")) or sorted(path.glob("*/*.parquet"))
    except OSError:
        return []
    return [file for file in here if file.is_file()]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
