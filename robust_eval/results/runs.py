"""Run folders as they are named, each with a name of its own, and refused: one that is no run is told the near ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from robust_eval.errors import DataError, near
from robust_eval.paths import is_folder, resolved, shown
from robust_eval.printable import printable

__all__ = ["refuse", "require_apart", "run_names"]

_LOOKED_AT = 1000
"""Neighbours of a folder among which near names are looked for."""


def run_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return a name for each folder: its own, with those above it where two share one."""
    paths = [resolved(folder) for folder in folders]
    names = [_tail(path, 1) for path in paths]
    for length in range(2, max((len(path.parts) for path in paths), default=0) + 1):
        shared = {name for name in names if names.count(name) > 1}
        if not shared:
            break
        names = [
            _tail(path, length) if name in shared else name for path, name in zip(paths, names, strict=True)
        ]
    return tuple(names)


def require_apart(folders: Sequence[Path]) -> None:
    """Raise ``DataError`` where there is no folder, or one is given twice."""
    if not folders:
        raise DataError("expected at least one run folder with records/, got none; name the folder of a run")
    seen: dict[Path, Path] = {}
    for folder in map(Path, folders):
        place = resolved(folder)
        if place in seen:
            also = "" if seen[place] == folder else f" (also as {shown(seen[place])})"
            raise DataError(
                f"expected each run once, got {shown(folder)} twice{also}; name other runs beside it"
            )
        seen[place] = folder


def refuse(folder: Path) -> NoReturn:
    """Raise ``DataError`` for a folder without records, naming runs beside it that may be meant."""
    expected = f"expected a run folder with records/, got {shown(folder)}"
    if (folder / "failed").is_dir() and any((folder / "failed").glob("*.json")):
        raise DataError(
            f"{expected}, in which every cell failed; see the tracebacks in failed/, and run again"
        )
    run = resolved(folder).parent
    if is_folder(folder) and is_folder(run / "records"):
        raise DataError(f"{expected}, a folder within a run; give the run: {shown(run)}")
    meant = near(resolved(folder).name, _runs_in(resolved(folder).parent) - {resolved(folder).name})
    inside = sorted(_runs_in(folder)) if is_folder(folder) else []
    if inside:
        more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
        raise DataError(f"{expected}, a folder of runs; name those in it: {shown(folder / inside[0])}{more}")
    if is_folder(folder):
        raise DataError(f"{expected}{meant}; run an experiment first")
    raise DataError(f"{expected}{meant}; there is no such folder, check its name")


def _runs_in(folder: Path) -> set[str]:
    """Return the names of the run folders in a folder, among its first."""
    try:
        names = sorted(path.name for path in folder.iterdir())[:_LOOKED_AT]
    except OSError:
        return set()
    return {printable(name) for name in names if is_folder(folder / name / "records")}


def _tail(path: Path, length: int) -> str:
    return printable("/".join(path.parts[-length:]).strip() or "unknown")
