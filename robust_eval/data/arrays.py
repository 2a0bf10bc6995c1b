"""Images and labels from a ``.npz`` file.

Accepted names: ``test_images``/``test_labels`` (with ``train_images``/``train_labels``), ``images``/``labels`` or
``x``/``y``.
Images are [n,c,h,w], [n,h,w,c] or [n,h,w] (grey), uint8 or float in [0, 1]; labels are whole numbers [n] or [n,1].
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_eval.data._asked import Asked
from robust_eval.data._examples import Examples
from robust_eval.data._npz import Npz, opened
from robust_eval.data._source import Source
from robust_eval.errors import DataError
from robust_eval.paths import shown

__all__ = ["TEST", "TRAIN", "Arrays", "as_images", "as_labels", "recognised"]

TEST = (("test_images", "test_labels"), ("images", "labels"), ("x", "y"))
TRAIN = (("train_images", "train_labels"),)


def recognised(asked: Asked) -> Arrays | None:
    """Return the source of a ``.npz`` file, ``None`` for anything else."""
    if asked.lies not in ("a file", "none") or asked.path.suffix.lower() != ".npz":
        return None
    if asked.lies == "none":
        raise DataError(f"data: no file {shown(asked.name)}; give the path of an existing .npz file")
    return Arrays(asked.path)


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
        with opened(self.path) as file:
            names = [images for images, _ in TEST if images in file.names]
            if not names or any(labels in file.names for _, labels in TEST):
                return None
            x = as_images(file.array(names[0]), f"{self.path}: {names[0]}")
        return Examples(x, torch.zeros(len(x), dtype=torch.int64), 1, f"data {self.path}")

    def _names(self) -> list[str]:
        with opened(self.path) as file:
            return file.names

    def _read(self, pairs: tuple[tuple[str, str], ...], n: int | None) -> Examples | None:
        with opened(self.path) as file:
            for images, labels in pairs:
                if images in file.names and labels in file.names:
                    return self._pair(file, images, labels, n)
        return None

    def _pair(self, file: Npz, images: str, labels: str, n: int | None) -> Examples:
        y = as_labels(file.array(labels), f"{self.path}: {labels}")
        shape, where = file.header(images).shape, f"data {self.path}"
        _require_images(shape, f"{self.path}: {images}")
        if shape[0] != len(y):
            raise DataError(
                f"{where}: expected one label per image, got {shape[0]} images and {len(y)} labels"
            )
        if n is not None and n > len(y):
            raise DataError(f"{where}: expected at least {n} images, got {len(y)}; lower n")
        x = as_images(file.array(images, n), f"{self.path}: {images}")
        classes = int(y.max()) + 1 if len(y) else 1
        return Examples(x, y[:n], max(classes, 1), where)


def _require_images(shape: tuple[int, ...], where: str) -> None:
    if len(shape) not in (3, 4):
        raise DataError(f"{where}: expected images [n,c,h,w] or [n,h,w,c], got shape {list(shape)}")


def as_images(array: NDArray[Any], where: str) -> Tensor:
    """Return images [n,c,h,w] as bytes or float32; raises ``DataError`` for another shape or type."""
    _require_images(array.shape, where)
    if array.ndim == 3:
        array = array[:, None]
    if array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{where}: expected uint8 or float in [0, 1], got {array.dtype}; {_as_pixels(array)}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _as_pixels(array: NDArray[Any]) -> str:
    """Return what makes the same images of numbers of another type."""
    if array.dtype == np.bool_:
        return "use .astype('float32')"
    if not np.issubdtype(array.dtype, np.integer):
        return "save plain numbers"
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0:
        return f"they reach from {low} to {high}: bring them to [0, 1] as float32"
    if high <= 1:
        return "if 1 is white, use .astype('float32')"
    if high <= 255 and array.dtype.itemsize > 2:
        return "use .astype('uint8')"
    white = (1 << high.bit_length()) - 1
    return f"they reach to {high}: divide by what white is, such as (x / {white}).astype('float32')"


def as_labels(array: NDArray[Any], where: str) -> Tensor:
    """Return labels [n] as whole numbers; raises ``DataError`` for another shape or type."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{where}: expected whole numbers of shape [n], got {array.dtype} of shape {list(array.shape)}"
        )
    return torch.from_numpy(array.astype(np.int64))
