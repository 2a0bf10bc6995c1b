"""Images and labels from a ``.npz`` file.

Accepted names: ``test_images``/``test_labels`` (with ``train_images``/``train_labels``), ``images``/``labels`` or
``x``/``y``.
Images are [n,c,h,w], [n,h,w,c] or [n,h,w] (grey), uint8 or float in [0, 1]; labels are whole numbers [n] or [n,1].
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from robust_eval.data._examples import Examples
from robust_eval.data._source import Source
from robust_eval.errors import DataError

__all__ = ["Arrays"]

TEST = (("test_images", "test_labels"), ("images", "labels"), ("x", "y"))
TRAIN = (("train_images", "train_labels"),)
DAMAGED = (OSError, ValueError, EOFError, BadZipFile, zlib.error)
"""What NumPy answers a damaged file with, and one that would have to be unpickled."""


@dataclass(frozen=True)
class Arrays(Source):
    """A ``.npz`` file; nothing in it is ever unpickled."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` test images of the file."""
        found = self._read(TEST, n)
        if found is None:
            wanted = " or ".join("/".join(pair) for pair in TEST)
            raise DataError(
                f"data {self.path}: expected arrays {wanted}, got {', '.join(self._names()) or 'none'}"
            )
        return found

    def train(self) -> Examples | None:
        """Return ``train_images`` with ``train_labels``, ``None`` where the file has none."""
        return self._read(TRAIN, None)

    def unlabelled(self) -> Examples | None:
        """Return the images of a file that holds no labels, all labelled 0; ``None`` for any other file."""
        with self._file() as file:
            names = [images for images, _ in TEST if images in file.files]
            if not names or any(labels in file.files for _, labels in TEST):
                return None
            try:
                pixels = file[names[0]]
            except DAMAGED:
                raise DataError(
                    f"data {self.path}: {names[0]} holds Python objects or is damaged; expected plain numbers"
                ) from None
        x = _images(pixels, f"{self.path}: {names[0]}")
        return Examples(x, torch.zeros(len(x), dtype=torch.int64), 1, f"data {self.path}")

    def _names(self) -> list[str]:
        with self._file() as file:
            return list(file.files)

    @contextmanager
    def _file(self) -> Iterator[NpzFile]:
        try:
            stream = self.path.open("rb")
        except OSError as error:
            raise DataError(f"data {self.path}: cannot be read ({error.strerror})") from None
        with stream:
            try:
                file = np.load(stream, allow_pickle=False)
            except (OSError, ValueError, EOFError, BadZipFile):
                file = None
            if not isinstance(file, NpzFile):
                raise DataError(
                    f"data {self.path}: expected a .npz file made by numpy.savez, got something else"
                )
            with file:
                yield file

    def _read(self, pairs: tuple[tuple[str, str], ...], n: int | None) -> Examples | None:
        with self._file() as file:
            for images, labels in pairs:
                if images in file.files and labels in file.files:
                    try:
                        pixels, numbers = file[images], file[labels]
                    except DAMAGED:
                        raise DataError(
                            f"data {self.path}: {images} or {labels} holds Python objects or is damaged; "
                            "expected plain numbers"
                        ) from None
                    y = _labels(numbers, f"{self.path}: {labels}")
                    x = _images(pixels, f"{self.path}: {images}")
                    classes = int(y.max()) + 1 if len(y) else 1
                    return Examples(x, y, max(classes, 1), f"data {self.path}").first(n)
        return None


def _images(array: NDArray[Any], where: str) -> Tensor:
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise DataError(f"{where}: expected images [n,c,h,w] or [n,h,w,c], got shape {list(array.shape)}")
    if array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{where}: expected uint8 or float in [0, 1], got {array.dtype}; use .astype('uint8')"
        )
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _labels(array: NDArray[Any], where: str) -> Tensor:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{where}: expected whole numbers of shape [n], got {array.dtype} of shape {list(array.shape)}"
        )
    return torch.from_numpy(array.astype(np.int64))
