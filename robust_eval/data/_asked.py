"""What was asked for in the place of a named set, as those see it who recognise a format."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from robust_eval.data._class_folders import ClassOrder

__all__ = ["Asked"]


class Asked(NamedTuple):
    """A name, what lies there, and how its images are to be read."""

    name: str
    path: Path
    lies: str
    """What is there, in words: ``a file``, ``a folder``, ``none``, or something else."""
    size: int | None = None
    class_order: ClassOrder | None = None
    skip_unreadable: bool = False
