"""Where encoded images lie: in files of their own, or within larger ones under names like paths."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from robust_eval.data._class_folders import File

__all__ = ["ON_DISK", "Contents", "Listing"]


@runtime_checkable
class Contents(Protocol):
    """Gives encoded images by their names. Asked by several threads at once."""

    def open(self, path: Path) -> Path | BytesIO:
        """Return what Pillow opens; raises ``OSError`` for what cannot be read."""

    def size(self, path: Path) -> int:
        """Return how many bytes an image takes."""


class _OnDisk:
    """Each image is a file."""

    def open(self, path: Path) -> Path:
        """Return the file."""
        return path

    def size(self, path: Path) -> int:
        """Return the size of the file."""
        return path.stat().st_size


ON_DISK: Contents = _OnDisk()


class Listing(NamedTuple):
    """The images of a split with their labels, and where they lie."""

    files: list[File]
    classes: int
    names: tuple[str, ...] | None
    root: Path
    contents: Contents = ON_DISK
