"""The run folder: nothing else touches the disk.

Every file is written to a temporary name in its own folder, flushed to the disk and renamed, so a file is
either whole or absent, and two processes that write the same one do no harm. A record's rows are written
before its JSON: the JSON's presence means the cell is done. A killed run loses the cells in flight only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import parquet

from robust_eval.errors import DataError
from robust_eval.files import atomic_path, write_text
from robust_eval.findings import SCHEMA
from robust_eval.results.record import Record

__all__ = ["Store"]


class Store:
    """A folder of records, trained weights and failures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, key: str) -> bool:
        """Whether the cell of this key is done."""
        return self._json(key).exists()

    def read(self, key: str) -> Record:
        """Return the record of this key; raises ``DataError`` if its files are damaged or of another schema."""
        return self._load(self._json(key))

    def write(self, record: Record) -> None:
        """Store a record: rows first, then the JSON that declares it done."""
        path = self._json(record.key)
        with atomic_path(path.with_suffix(".parquet")) as temporary:
            record.rows.to_parquet(temporary, index=False)
        write_text(path, json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n")
        self._failed(record.key).unlink(missing_ok=True)

    def fail(self, key: str, labels: dict[str, Any], error: str) -> None:
        """Note that a cell failed, and why; it is never counted as done."""
        write_text(self._failed(key), json.dumps({"key": key, "labels": labels, "error": error}, indent=1))

    def records(self, *, rows: bool = True) -> Iterator[Record]:
        """Read every record of the folder, ordered by key; without ``rows`` their tables of examples are left empty."""
        for path in sorted(self.folder.glob("records/??/*.json")):
            yield self._load(path, rows=rows)

    def failures(self) -> Iterator[dict[str, Any]]:
        """Read what is known of the cells that failed, ordered by key: ``key``, ``labels`` and ``error``."""
        for path in sorted(self.folder.glob("failed/*.json")):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # a note, which nothing depends on
                continue
            if isinstance(found, dict) and isinstance(found.get("labels"), dict):
                yield found

    def checkpoint(self, key: str) -> Path:
        """Where the weights of the recipe with this key are kept."""
        return self.folder / "checkpoints" / f"{key}.safetensors"

    def training(self, key: str) -> Path:
        """Where the training of the recipe with this key keeps its log, and what it needs to go on after a kill."""
        return self.folder / "training" / key

    def _json(self, key: str) -> Path:
        return self.folder / "records" / key[:2] / f"{key}.json"

    def _failed(self, key: str) -> Path:
        return self.folder / "failed" / f"{key}.json"

    @staticmethod
    def _load(path: Path, *, rows: bool = True) -> Record:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            schema = data["schema"]
            if schema != SCHEMA:
                raise DataError(
                    f"record {path}: expected schema {SCHEMA}, got {schema}; "
                    "use the version that wrote it, or a new folder"
                )
            # a third of the time of pandas' reader, which sets up a data set for each file
            file = path.with_suffix(".parquet")
            table = parquet.ParquetFile(file).read(use_threads=False).to_pandas() if rows else pd.DataFrame()
            return Record.from_json(data, table)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"record {path}: cannot be read ({reason}); delete it and run again") from None
