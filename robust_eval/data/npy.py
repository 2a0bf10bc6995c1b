"""Images and labels in two ``.npy`` files: named as ``images.npy,labels.npy``, or a folder with both.

In a folder the files are called as the arrays of a ``.npz`` file: ``images``/``labels``, ``x``/``y``, ``test_images``/
``test_labels`` with ``train_images``/``train_labels``. The second of two named files is looked for beside the first.
Shapes and types are those of a ``.npz`` file. Files are mapped, not read: bytes [n,c,h,w] stay on the disk until asked
for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_eval.data._absolute import absolute
from robust_eval.data._asked import Asked
from robust_eval.data._examples import Examples
from robust_eval.data._source import Source
from robust_eval.data.arrays import TEST, TRAIN, as_images, as_labels
from robust_eval.errors import DataError
from robust_eval.paths import is_file, require_file, shown

__all__ = ["NpyPair", "recognised"]


def recognised(asked: Asked) -> NpyPair | None:
    """Return the source of a pair of files or of a folder with one, ``None`` for anything else."""
    if asked.lies == "a folder":
        pairs = [_in(asked.path, names) for names in (*TEST, *TRAIN)]
        found = [pair for pair in pairs if any(map(is_file, pair))]
        test = [_in(asked.path, names) for names in TEST if any(map(is_file, _in(asked.path, names)))]
        if not found:
            return None
        train = _in(asked.path, TRAIN[0])
        return NpyPair(asked.path, (test or found)[0], train if is_file(train[0]) else None)
    if not asked.name.lower().endswith(".npy"):
        return None
    first, comma, second = absolute(Path(), asked.name).rpartition(",")
    if not comma:
        raise DataError(
            f"data {shown(asked.name)}: expected images and labels, got one .npy file; name both, with a comma between "
            "them (images.npy,labels.npy), or a folder with both"
        )
    return NpyPair(Path(first), (Path(first), Path(second)), None)


def _in(folder: Path, names: tuple[str, str]) -> tuple[Path, Path]:
    images, labels = (folder / f"{name}.npy" for name in names)
    return images, labels


@dataclass(frozen=True)
class NpyPair(Source):
    """A file of images and one of labels; nothing in them is ever unpickled."""

    path: Path
    measured: tuple[Path, Path]
    """Images and labels."""
    trained_on: tuple[Path, Path] | None = None

    @property
    def name(self) -> str:
        """The name of the folder, or of the file of images."""
        return self.path.stem if self.path.suffix == ".npy" else self.path.resolve().name

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` images."""
        return self._pair(self.measured, n)

    def train(self) -> Examples | None:
        """Return the training images of a folder, ``None`` where it has none."""
        return None if self.trained_on is None else self._pair(self.trained_on, None)

    def _pair(self, files: tuple[Path, Path], n: int | None) -> Examples:
        where, (images, labels) = f"data {self.path}", map(_mapped, files)
        y = as_labels(labels, str(files[1]))
        if images.ndim and len(images) != len(y):
            raise DataError(
                f"{where}: expected one label per image, got {len(images):,} images in {files[0].name} and "
                f"{len(y):,} labels in {files[1].name}"
            )
        if n is not None and n > len(y):
            raise DataError(f"{where}: expected at least {n} images, got {len(y)}; lower n")
        x = as_images(images[:n] if images.ndim else images, str(files[0]))
        return Examples(x, y[:n], int(y.max()) + 1 if len(y) else 1, where)


def _mapped(path: Path) -> NDArray[Any]:
    require_file(path, where=f"data {shown(path)}", wanted="a .npy file of numpy.save")
    try:
        # "c": torch wants to be able to write; nothing gets into the file
        array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError) as error:
        objects = (
            "Object arrays" in str(error) or "allow_pickle" in str(error) or "Python objects" in str(error)
        )
        fix = (
            "holds Python objects, which are not unpickled; save plain numbers"
            if objects
            else ("is no .npy file of numpy.save, or is damaged; save it again")
        )
        raise DataError(f"data {shown(path)}: {fix}") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"data {shown(path)}: is a .npz file by another name; rename it to .npz")
    return array
