"""The run folder: nothing else touches the disk.

Every file is written to a temporary name in its own folder, flushed to the disk and renamed, so a file is
either whole or absent, and two processes that write the same one do no harm. A record's rows are written
before its JSON: the JSON's presence means the cell is done. A killed run loses the cells in flight only.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import parquet

from robust_eval.errors import DamagedRecordError, DataError
from robust_eval.files import atomic_path, write_text
from robust_eval.findings import SCHEMA
from robust_eval.identity import content_key, file_sha256
from robust_eval.paths import is_folder, what_is
from robust_eval.results.record import Record

__all__ = ["Store"]

WHOLE = "sha256"
"""The field of a record's JSON with the hash of the rest."""
ROWS = "rows_sha256"
"""The field with the hash of the file of its rows."""


class Store:
    """A folder of records, trained weights and failures."""

    FOLDERS = (
        "records/??",
        "failed",
        "checkpoints",
        "training/*",
        "models",
        "examples",
        "examples/*",
        "report",
        "report/figures",
        "leases",
    )
    """Where files are written, as patterns."""

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
            rows = file_sha256(temporary)
        data = {**json.loads(json.dumps(record.to_json(), allow_nan=False)), ROWS: rows}
        write_text(path, json.dumps({**data, WHOLE: content_key(data)}, indent=1) + "\n")
        self._failed(record.key).unlink(missing_ok=True)

    def discard(self, key: str) -> None:
        """Forget a record: its cell is to be measured again."""
        for path in (self._json(key), self._json(key).with_suffix(".parquet")):
            if is_folder(path):
                raise DamagedRecordError(
                    f"record {path}: expected a file, got a folder; remove it and run again"
                )
            path.unlink(missing_ok=True)

    def fail(self, key: str, labels: dict[str, Any], error: str, spec: dict[str, Any] | None = None) -> None:
        """Note that a cell failed, and why; it is never counted as done. ``spec`` is what the key is a hash of."""
        note = {"key": key, "labels": labels, "error": error, **({} if spec is None else {"spec": spec})}
        write_text(self._failed(key), json.dumps(note, indent=1))

    def failed_at(self, key: str) -> float:
        """Return when this cell failed last, in seconds since 1970; 0 where it has not."""
        try:
            return self._failed(key).stat().st_mtime
        except OSError:
            return 0.0

    def failure(self, key: str) -> str:
        """Return the traceback of a cell that failed; empty where none can be read."""
        try:
            _require_regular(self._failed(key))
            return str(json.loads(self._failed(key).read_text(encoding="utf-8"))["error"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""

    def records(
        self, *, rows: bool = True, damaged: Callable[[DamagedRecordError], None] | None = None
    ) -> Iterator[Record]:
        """Read every record of the folder, ordered by key; without ``rows`` their tables of examples are left empty.

        What cannot be believed is told to ``damaged`` and left out; without it, and for a folder that may not be
        read, ``DataError`` is raised.
        """
        for path in self._files():
            try:
                yield self._load(path, rows=rows)
            except DamagedRecordError as error:
                if damaged is None:
                    raise
                damaged(error)

    def _files(self) -> list[Path]:
        """Return the records' JSON files; a glob would leave out in silence what may not be read."""
        try:
            with os.scandir(self.folder / "records") as found:
                folders = [entry.path for entry in found if len(entry.name) == 2 and entry.is_dir()]
            return sorted(
                Path(entry.path)
                for folder in folders
                for entry in os.scandir(folder)
                if entry.name.endswith(".json")
            )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise DataError(
                f"records: expected a folder that may be read, got {error.filename} ({error.strerror}); "
                "let its owner give you access"
            ) from None

    def failures(self) -> Iterator[dict[str, Any]]:
        """Read what is known of the cells that failed, ordered by key: ``key``, ``labels``, ``error``, ``spec``;
        ``time`` is when.
        """
        for path in sorted(self.folder.glob("failed/*.json")):
            try:
                _require_regular(path)
                found = json.loads(path.read_text(encoding="utf-8"))
                time = path.stat().st_mtime
            except (OSError, ValueError, RecursionError):  # a note, which nothing depends on
                continue
            if isinstance(found, dict) and all(
                isinstance((found.get("labels") or {}).get(name), str)
                for name in ("model", "defense", "data", "family")
            ):
                yield {**found, "time": time}

    def written(self, key: str) -> float:
        """Return when a record was written, in seconds since 1970; 0 where it is gone."""
        try:
            return self._json(key).stat().st_mtime
        except OSError:
            return 0.0

    def checkpoint(self, key: str) -> Path:
        """Where the weights of the recipe with this key are kept."""
        return self.folder / "checkpoints" / f"{key}.safetensors"

    def training(self, key: str) -> Path:
        """Where the training of the recipe with this key keeps its log, and what it needs to go on after a kill."""
        return self.folder / "training" / key

    def answers(self, key: str) -> Path:
        """Where the answers by which the user's model with this key is known again are kept."""
        return self.folder / "models" / f"{key}.json"

    def _json(self, key: str) -> Path:
        return self.folder / "records" / key[:2] / f"{key}.json"

    def _failed(self, key: str) -> Path:
        return self.folder / "failed" / f"{key}.json"

    @staticmethod
    def _load(path: Path, *, rows: bool = True) -> Record:
        try:
            _require_regular(path)
            data = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(data, dict) or "schema" not in data:
                raise ValueError("it holds no record")
            if (schema := data["schema"]) != SCHEMA:
                raise DataError(
                    f"record {path}: expected schema {SCHEMA}, got {schema}; "
                    "use the version that wrote it, or a new folder"
                )
            _require_whole(data)
            table = _rows(path.with_suffix(".parquet"), data.pop(ROWS, None)) if rows else pd.DataFrame()
            data.pop(ROWS, None)
            record = Record.from_json(data, table)
            _require_key(record, path.stem)
            return record
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DamagedRecordError(
                f"record {path}: cannot be read ({why}); delete it and run again"
            ) from None


def _require_regular(path: Path) -> None:
    """Raise for a FIFO, a socket or a device, which would be waited on for ever; one that is missing is told so."""
    if (found := what_is(path)) not in ("a file", "none"):
        raise ValueError(f"expected a file, got {found}: {path.name}")


def _require_whole(data: dict[str, Any]) -> None:
    """Take the hash out of a record's JSON and compare it with the rest; those of older versions have none."""
    written = data.pop(WHOLE, None)
    if written is None and ROWS not in data:
        return
    if written != content_key(data):
        raise ValueError("its content is not what was written: it has been damaged or edited")


def _rows(path: Path, written: str | None) -> pd.DataFrame:
    """Return the rows; raises ``ValueError`` where they are not those that were written with the record."""
    _require_regular(path)
    content = path.read_bytes()
    if written is not None and hashlib.sha256(content).hexdigest() != written:
        raise ValueError(
            f"{path.name} is not what was written with it: it has been damaged, or is another record's"
        )
    # a third of the time of pandas' reader, which sets up a data set for each file
    table: pd.DataFrame = parquet.ParquetFile(io.BytesIO(content)).read(use_threads=False).to_pandas()
    return table


def _require_key(record: Record, stem: str) -> None:
    """Raise unless the file's name, the key inside and what was measured belong together."""
    if record.key != stem:
        raise ValueError(f"the record inside is {record.key[:12]}: the file has been copied or renamed")
    if content_key(record.spec) != record.key:
        raise ValueError("its key is not that of what it says was measured")
