"""A folder that Hugging Face's ``datasets`` wrote with ``save_to_disk``: Arrow files with ``state.json`` beside them.

Several splits lie in folders of their own, named in ``dataset_dict.json``. The files are mapped, not read: what is not
asked for stays on the disk. ``datasets`` itself is not needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from robust_eval.data._asked import Asked
from robust_eval.data._contents import Listing
from robust_eval.data._encoded import Encoded, Split, as_asked, split_of
from robust_eval.data._rows import DAMAGED, listing, readable_columns
from robust_eval.errors import DataError
from robust_eval.paths import is_file

__all__ = ["SavedDataset", "recognised"]


def recognised(asked: Asked) -> SavedDataset | None:
    """Return the source of a folder of ``save_to_disk``, ``None`` for anything else."""
    files = ("state.json", "dataset_dict.json")
    if asked.lies != "a folder" or not any(is_file(asked.path / name) for name in files):
        return None
    return SavedDataset(**as_asked(asked))


@dataclass(frozen=True)
class SavedDataset(Encoded):
    """A saved ``Dataset`` or ``DatasetDict``."""

    def _listing(self, split: Split) -> Listing | None:
        where = f"data {self.path}"
        if not is_file(self.path / "dataset_dict.json"):
            return self._read(self.path, where) if split == "test" else None
        splits = _json(self.path / "dataset_dict.json").get("splits")
        names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
        for name in names:
            _require_plain(name, where)
        chosen = split_of(names, split)
        if not chosen and split == "test":
            raise DataError(
                f"{where}: expected a split test or validation, got {', '.join(names) or 'none'}; "
                "name the folder of a split to measure on it"
            )
        return self._read(self.path / chosen[0], f"data {self.path / chosen[0]}") if chosen else None

    def _read(self, folder: Path, where: str) -> Listing:
        state = _json(folder / "state.json")
        if state.get("_indices_files") or state.get("_indices_data_files"):
            raise DataError(
                f"{where}: expected the rows themselves, got a selection of them; save it with flatten_indices()"
            )
        files = state.get("_data_files")
        names = [file.get("filename") for file in files] if isinstance(files, list) else []
        if not names:
            raise DataError(
                f"{where}: expected names of Arrow files in state.json, got none; save the set again"
            )
        tables = []
        for name in names:
            _require_plain(name, where)
            tables.append(_table(folder / name, where))
        return listing(pa.concat_tables(tables), folder, where)


def _table(path: Path, where: str) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_stream(file).read_all()
    except DAMAGED as error:
        said = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise DataError(f"data {path}: is no Arrow file or is damaged ({said}); save the set again") from None
    return table.select([*readable_columns(table.schema, where)])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"data {path}: cannot be read ({type(error).__name__}); save the set again") from None
    if not isinstance(found, dict):
        raise DataError(f"data {path}: expected an object, got {type(found).__name__}; save the set again")
    return found


def _require_plain(name: object, where: str) -> None:
    """Raise ``DataError`` for a name that leads out of the folder."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise DataError(f"{where}: expected names of files in this folder, got {name!r}; save the set again")
