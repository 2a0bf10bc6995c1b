"""What was asked for in the place of a named set, as those see it who recognise a format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from robust_eval.data._class_folders import ClassOrder
from robust_eval.data._files import Interpolation, Resize
from robust_eval.paths import what_is

__all__ = ["Asked"]


@dataclass(frozen=True)
class Asked:
    """A name, what lies there, and how its images are to be read."""

    name: str
    size: int | None = None
    resize: Resize | None = None
    interpolation: Interpolation | None = None
    class_order: ClassOrder | None = None
    skip_unreadable: bool = False

    @property
    def path(self) -> Path:
        """The name as a path."""
        return Path(self.name)

    @cached_property
    def lies(self) -> str:
        """What is there, in words: ``a file``, ``a folder``, ``none``, or something else."""
        return what_is(self.name)
