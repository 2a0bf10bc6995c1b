"""What a folder of corrupted images offers, however it is laid out: blocks of one type at one severity."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from robust_eval.data._examples import Examples
from robust_eval.errors import DataError
from robust_eval.registry import find, names

__all__ = ["SEVERITIES", "Block", "CorruptedFiles", "known_types", "require_labels"]

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, eq=False)
class Block:
    """The corrupted images of the measured ones: one type at one severity."""

    type: str
    severity: int
    files: str
    """Name of the folder, for reports."""
    sha256: str
    """Over the images that are used: the identity of the block in a record's key."""
    read: Callable[[NDArray[np.int64]], UInt8[Tensor, "m c h w"]]
    """Maps positions among the measured images to the corrupted ones."""


class CorruptedFiles(ABC):
    """A folder of corrupted images. Nothing of it is held in memory but what is asked for."""

    folder: Path

    @property
    @abstractmethod
    def severities(self) -> dict[str, tuple[int, ...]]:
        """The severities that are there of each type."""

    @abstractmethod
    def block(self, type_: str, severity: int, examples: Examples) -> Block:
        """Return one type at one severity for the measured images.

        Raises ``DataError`` for damaged files, images of another shape, fewer of them, and others than those measured,
        by their labels.
        """


def known_types() -> list[str]:
    """Return the names that files and folders may have: those of the corruptions with severities."""
    return [name for name in names("corruption") if "severity" in _fields(find("corruption", name))]


def require_labels(where: Path, labels: NDArray[Any], examples: Examples) -> None:
    """Raise ``DataError`` unless there are labels for all measured images, the same in the same order."""
    n, wanted = len(examples), examples.labels.cpu().numpy()
    if len(labels) < n:
        raise DataError(
            f"corrupted {where}: expected at least {n} images of each severity, as many as are measured, "
            f"got {len(labels)}; lower n"
        )
    if len(other := np.flatnonzero(labels[:n] != wanted)):
        first = int(other[0])
        raise DataError(
            f"corrupted {where}: the corrupted files are of other images: expected label {wanted[first]} at image "
            f"{first + 1} as measured, got {labels[first]}; measure the set they were made from (data cifar10 for "
            "CIFAR-10-C), or write files of this one with robust-eval corrupt"
        )


def _fields(cls: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}
