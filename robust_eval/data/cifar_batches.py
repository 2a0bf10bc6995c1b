"""CIFAR's own files: pickled batches as the archive unpacks to, read without running code.

A folder with ``data_batch_1`` to ``data_batch_5``, ``test_batch`` and ``batches.meta`` (CIFAR-10), one with ``train``,
``test`` and ``meta`` (CIFAR-100, fine labels), or a single batch: a dictionary of ``data`` [n,3072], bytes channel by
channel, or [n,3,32,32], and ``labels``, ``fine_labels`` or ``targets``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robust_eval.data._asked import Asked
from robust_eval.data._examples import Examples
from robust_eval.data._labels import numbered
from robust_eval.data._pickled import is_pickle, unpickled
from robust_eval.data._source import Source
from robust_eval.errors import DataError
from robust_eval.paths import is_file

__all__ = ["CifarBatches", "recognised"]

LABELS = ("labels", "fine_labels", "targets")
NAMES = ("label_names", "fine_label_names")
ENDINGS = (".pkl", ".pickle")


def recognised(asked: Asked) -> CifarBatches | None:
    """Return the source of a pickled batch or of a folder of them, ``None`` for anything else."""
    path = asked.path
    if asked.lies == "a file":
        suffix = path.suffix.lower()
        # data_batch_1 has no ending, nor has test; a checkpoint may be a pickle too, and has one
        return CifarBatches(path, (path,)) if suffix in ENDINGS or (not suffix and is_pickle(path)) else None
    if asked.lies != "a folder":
        return None
    ten = sorted(file for file in path.glob("data_batch_*") if is_file(file))
    if ten or is_file(path / "test_batch"):
        return CifarBatches(path, (path / "test_batch",), tuple(ten), path / "batches.meta")
    if is_file(path / "meta") and is_file(path / "test"):
        train = path / "train"
        return CifarBatches(path, (path / "test",), (train,) if is_file(train) else (), path / "meta")
    return None


@dataclass(frozen=True)
class CifarBatches(Source):
    """Pickled batches of images of 3 x 32 x 32 bytes."""

    path: Path
    measured: tuple[Path, ...]
    trained_on: tuple[Path, ...] = ()
    notes: Path | None = None
    """The file with the names of the classes."""
    crop = 4
    flip = True

    @property
    def name(self) -> str:
        """The name of the file or folder."""
        return self.path.resolve().name

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` test images."""
        return self._examples(self.measured).first(n)

    def train(self) -> Examples | None:
        """Return the training images, ``None`` where there are none."""
        return self._examples(self.trained_on) if self.trained_on else None

    def _examples(self, files: Sequence[Path]) -> Examples:
        where, batches = f"data {self.path}", [_batch(file) for file in files]
        names = self._names()
        labels = numbered(
            [label for _, found in batches for label in found], where=where, at="place", names=names
        )
        images = torch.from_numpy(np.concatenate([images for images, _ in batches]))
        numbers = torch.tensor(labels.labels, dtype=torch.int64)
        return Examples(images, numbers, labels.classes, where, class_names=labels.names)

    def _names(self) -> list[str] | None:
        if self.notes is None or not is_file(self.notes):
            return None
        found = unpickled(self.notes)
        names = _first(found, NAMES) if isinstance(found, dict) else None
        if not isinstance(names, list):
            return None
        return [
            name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
            for name in names
        ]


def _batch(path: Path) -> tuple[NDArray[Any], list[Any]]:
    found = unpickled(path)
    if not isinstance(found, dict):
        raise DataError(
            f"data {path}: expected a dictionary of data and labels, got {type(found).__name__}; save it as .npz"
        )
    data, labels = _first(found, ("data",)), _first(found, LABELS)
    if data is None or labels is None:
        has = ", ".join(sorted(_text(key) for key in found)[:8]) or "nothing"
        missing = "data" if data is None else "labels, fine_labels or targets"
        raise DataError(
            f"data {path}: expected {missing} in the batch, got {has}; rename it, or save it as .npz"
        )
    images = np.asarray(data)
    if images.dtype != np.uint8 or images.shape[1:] not in ((3072,), (3, 32, 32)):
        raise DataError(
            f"data {path}: expected data of bytes [n,3072], got {images.dtype} of shape {list(images.shape)}; "
            "save other images as .npz"
        )
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(values) != len(images):
        raise DataError(
            f"data {path}: expected one label per image, got {len(images)} images and {len(values)} labels"
        )
    return images.reshape(-1, 3, 32, 32), values


def _first(found: dict[Any, Any], keys: Sequence[str]) -> Any:
    by_text = {_text(key): value for key, value in found.items()}
    return next((by_text[key] for key in keys if key in by_text), None)


def _text(key: object) -> str:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
