"""Corrupted images in the layout of ImageNet-C and Tiny-ImageNet-C: ``TYPE/SEVERITY/CLASS/`` files.

Types may lie in the folders of their groups, ``noise/TYPE`` and so on, as they are unpacked. Classes are numbered as
those of an image folder, and every block holds files of the same names: those of the images they were made from.

Measured images come in an order of their own, so the files are put into it. Two orders are known: the fixed shuffled
one in which image folders are read, and that of the numbers in the files' names, as Tiny-ImageNet lists its images. The
one whose labels are those measured is taken; where both are, with few images, the one whose pixels are nearer.

Images are decoded a part at a time. They must have the size of those measured: ImageNet-C is cropped to 224 pixels.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from robust_eval.data._class_folders import ENDINGS, ClassOrder, File, readable, shuffled, sub_folders
from robust_eval.data._corrupted import SEVERITIES, Block, CorruptedFiles, require_labels
from robust_eval.data._examples import Examples, as_pixels
from robust_eval.data._files import Reader
from robust_eval.errors import DataError

__all__ = ["FolderFiles"]

LOOKED_AT = 16
"""Images compared to tell two orders apart."""
LARGE = 256 << 20
"""Bytes of the files of a block from which their names and sizes are hashed, and not their content."""
FIX = "unpack the archive again"


class _Files(NamedTuple):
    """The files of a block, class by class."""

    names: NDArray[Any]
    """Below the folder of the severity. As bytes: a million strings take a hundred megabytes."""
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FolderFiles(CorruptedFiles):
    """A folder with one sub-folder for each type."""

    folder: Path
    roots: dict[str, Path]
    """The sub-folder of each type."""
    class_order: ClassOrder | None = None
    _orders: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    @cached_property
    def severities(self) -> dict[str, tuple[int, ...]]:
        """Those of 1 to 5 that have a folder."""
        return {
            name: tuple(severity for severity in SEVERITIES if (root / str(severity)).is_dir())
            for name, root in self.roots.items()
        }

    def block(self, type_: str, severity: int, examples: Examples) -> Block:
        """Return the block of the folder."""
        root, all_files = self.roots[type_] / str(severity), self._files
        names = _listed(root, self.class_order).names
        if len(names) != len(all_files.names):
            raise DataError(
                f"corrupted {root}: expected {len(all_files.names)} images as in {self._first}, got {len(names)}; {FIX}"
            )
        if not np.array_equal(names, all_files.names):
            place = int((names != all_files.names).argmax())
            raise DataError(
                f"corrupted {root}: expected files of the same names as in {self._first}, got "
                f"{os.fsdecode(names[place])} for {os.fsdecode(all_files.names[place])}; {FIX}"
            )
        used = all_files.names[self._order(examples)[: len(examples)]]
        reader = _reader(root, examples)
        first = _read(reader, used[:1])
        if tuple(first.shape[1:]) != examples.shape:
            raise DataError(
                f"corrupted {root}: expected images of {_shape(examples.shape)} like those measured, got "
                f"{_shape(first.shape[1:])}; measure them at that size (--size {first.shape[-1]})"
            )

        def read(positions: NDArray[np.int64]) -> UInt8[Tensor, "m c h w"]:
            return _read(reader, used[positions])

        return Block(type_, severity, self.folder.resolve().name, _sha256(root, used), read)

    @property
    def _first(self) -> Path:
        """The folder that the others are compared with."""
        name = next(iter(self.roots))
        return self.roots[name] / str(self.severities[name][0])

    @cached_property
    def _files(self) -> _Files:
        return _listed(self._first, self.class_order)

    def _order(self, examples: Examples) -> NDArray[np.int64]:
        """Return where each measured image is among the files."""
        if examples.fingerprint not in self._orders:
            self._orders[examples.fingerprint] = self._found(examples)
        return self._orders[examples.fingerprint]

    def _found(self, examples: Examples) -> NDArray[np.int64]:
        names, labels = self._files
        orders = [_shuffled(len(names)), *_by_number(names)]
        wanted = examples.labels.cpu().numpy()
        fitting = [order for order in orders if np.array_equal(labels[order][: len(examples)], wanted)]
        if not fitting:
            require_labels(self.folder, labels[orders[0]], examples)
        self._require_names(examples)
        return min(fitting, key=lambda order: self._distance(order, examples)) if fitting[1:] else fitting[0]

    def _require_names(self, examples: Examples) -> None:
        """Raise ``DataError`` where the folder of a measured class is called otherwise."""
        if examples.class_names is None:
            return
        here = list(map(readable, sub_folders(self._first, self.class_order)))
        for label in sorted(set(examples.labels.tolist())):
            if here[label] != examples.class_names[label]:
                raise DataError(
                    f"corrupted {self.folder}: the corrupted files are of other images: expected class folders of the "
                    f"same names as those measured, got {here[label]} for {examples.class_names[label]}; measure the "
                    "set they were made from"
                )

    def _distance(self, order: NDArray[np.int64], examples: Examples) -> float:
        """Return how far the first files in this order are from the first images."""
        clean = examples.first(min(LOOKED_AT, len(examples))).pixels().cpu()
        files = _read(_reader(self._first, examples), self._files.names[order[: len(clean)]])
        return float((as_pixels(files) - clean).square().mean()) if files.shape == clean.shape else 0.0


def _listed(root: Path, order: ClassOrder | None) -> _Files:
    """Return the image files of a block, class by class in the order of the classes."""
    found: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(sub_folders(root, order)):
        with os.scandir(root / name) as entries:
            files = sorted(entry.name for entry in entries if Path(entry.name).suffix.lower() in ENDINGS)
        found += [os.fsencode(f"{name}/{file}") for file in files]
        labels += [label] * len(files)
    if not found:
        raise DataError(f"corrupted {root}: expected one sub-folder of images per class, got no image; {FIX}")
    return _Files(np.array(found), np.array(labels))


def _shuffled(n: int) -> NDArray[np.int64]:
    """Return the order in which image folders are read."""
    return np.array([file.label for file in shuffled([File(Path(), place) for place in range(n)])])


def _by_number(names: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return the order of the last numbers in the names, if each has one of its own."""
    found = [re.findall(r"\d+", Path(os.fsdecode(name)).stem) for name in names]
    numbers = [int(of[-1]) for of in found if of]
    return [np.argsort(numbers)] if len(set(numbers)) == len(names) else []


def _reader(root: Path, examples: Examples) -> Reader:
    return Reader(where=f"corrupted {root}", root=root, classes=1, colour=examples.shape[0] == 3, fix=FIX)


def _read(reader: Reader, names: Sequence[bytes] | NDArray[Any]) -> UInt8[Tensor, "m c h w"]:
    images = reader.examples([File(reader.root / os.fsdecode(name), 0) for name in names]).images
    assert isinstance(images, Tensor)
    return images


def _sha256(root: Path, names: NDArray[Any]) -> str:
    """Return the hash of the files; of large ones, of their names and sizes."""
    place = os.fsencode(root) + b"/"
    # a third of the time that Path takes, of a million files
    sizes = [os.stat(place + name).st_size for name in names]  # noqa: PTH116
    whole, digest = sum(sizes) < LARGE, hashlib.sha256()
    for name, size in zip(names, sizes, strict=True):
        digest.update(b"%s\0%d\0" % (name, size))
        if whole:
            digest.update((root / os.fsdecode(name)).read_bytes())
    return digest.hexdigest()


def _shape(image: Sequence[int]) -> str:
    return "x".join(map(str, image))
