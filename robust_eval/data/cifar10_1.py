"""CIFAR-10.1: new test images for CIFAR-10, from the published ``.npy`` pair where the user has it; nothing is fetched.

Source: Recht et al. 2018, "Do CIFAR-10 Classifiers Generalize to CIFAR-10?", https://arxiv.org/abs/1806.00451, folder
``datasets`` of https://github.com/modestyachts/CIFAR-10.1. Version 6 has 2,000 images, 200 of each class, and is the
authors' choice; version 4 has 2,021. Both files are verified by shape, type and count, and never unpickled. The gap to
CIFAR-10 is :func:`robust_eval.metrics.accuracy.accuracy_gap`.

Images come in a fixed shuffled order, so that the first n are of all classes whatever the files' order. There are no
training images: those are CIFAR-10's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from robust_eval.data._examples import Examples
from robust_eval.data._source import Source, cache_folder
from robust_eval.data.cifar import Cifar10
from robust_eval.errors import DataError
from robust_eval.paths import is_file
from robust_eval.registry import register
from robust_eval.rng import Rng

__all__ = ["Cifar101V4", "Cifar101V6"]

FOLDERS = (".", "cifar10.1", "CIFAR-10.1", "CIFAR-10.1/datasets")
"""Where the pair may lie below the cache folder: as it is, in a folder of its own, or in a copy of the repository."""


@dataclass(frozen=True, kw_only=True)
class _Cifar101(Source):
    called: ClassVar[str]
    version: ClassVar[str]
    images: ClassVar[int]
    mean = Cifar10.mean
    std = Cifar10.std

    root: Path | None = None
    """Folder that holds the two files; ``None`` looks in the cache folder."""

    @property
    def name(self) -> str:
        """The set's name."""
        return self.called

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` of the images, in a fixed shuffled order."""
        folder = self._folder()
        pixels = _array(folder / self._file("data"), (self.images, 32, 32, 3), np.dtype(np.uint8), "uint8")
        labels = _array(folder / self._file("labels"), (self.images,), np.integer, "whole numbers")
        order = Rng(0, ("cifar10.1",)).numpy().permutation(self.images)
        x = torch.from_numpy(np.ascontiguousarray(pixels[order].transpose(0, 3, 1, 2)))
        return Examples(x, torch.from_numpy(labels[order].astype(np.int64)), 10, f"data {self.name}").first(n)

    def train(self) -> None:
        """Return ``None``: the set has no training images."""
        return None

    def _file(self, what: str) -> str:
        return f"cifar10.1_{self.version}_{what}.npy"

    def _folder(self) -> Path:
        """Return the folder that holds both files."""
        folders = [self.root] if self.root is not None else [cache_folder() / name for name in FOLDERS]
        for folder in folders:
            if all(is_file(folder / self._file(what)) for what in ("data", "labels")):
                return folder
        raise DataError(
            f"data {self.name}: expected {self._file('data')} and {self._file('labels')} in {folders[0]}, got none; "
            "take both from the folder datasets of github.com/modestyachts/CIFAR-10.1, or set ROBUST_EVAL_DATA to the "
            "folder that holds them"
        )


@register("data", "cifar10_1")
@dataclass(frozen=True, kw_only=True)
class Cifar101V6(_Cifar101):
    """Version 6: ten classes of 200 new test images each, 32 x 32 pixels in colour."""

    called: ClassVar[str] = "cifar10_1"
    version: ClassVar[str] = "v6"
    images: ClassVar[int] = 2000


@register("data", "cifar10_1_v4")
@dataclass(frozen=True, kw_only=True)
class Cifar101V4(_Cifar101):
    """Version 4: ten classes, 2,021 new test images, 32 x 32 pixels in colour."""

    called: ClassVar[str] = "cifar10_1_v4"
    version: ClassVar[str] = "v4"
    images: ClassVar[int] = 2021


def _array(path: Path, shape: tuple[int, ...], dtype: Any, what: str) -> NDArray[Any]:
    """Return the array of a ``.npy`` file of this shape and type."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, TypeError, MemoryError):
        raise DataError(f"data: {path} is no array that can be read; get the file again") from None
    if not isinstance(array, np.ndarray):
        raise DataError(
            f"data: {path}: expected one array in a .npy file, got a .npz file; get the file again"
        )
    if array.shape != shape or not np.issubdtype(array.dtype, dtype):
        raise DataError(
            f"data: {path}: expected {what} of shape {list(shape)}, got {array.dtype} of shape {list(array.shape)}; "
            "get the published file"
        )
    return array
