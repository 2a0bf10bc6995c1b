"""A folder with one sub-folder of images per class, or ``test``/``val`` and ``train`` folders of such.

Folders are sorted by class, so "the first n" would be one class: the images are taken in a fixed shuffled order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from robust_eval.data._examples import Examples
from robust_eval.data._source import Source
from robust_eval.errors import DataError
from robust_eval.rng import Rng

__all__ = ["Folder"]

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class Folder(Source):
    """An image folder. Classes are the sub-folders' names in alphabetical order."""

    path: Path
    size: int | None = None
    """Side in pixels to which images are resized (shorter side, bilinear) and cropped at the centre."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` images, in a fixed shuffled order, of ``test``, ``val`` or the folder itself."""
        for split in ("test", "val"):
            if (self.path / split).is_dir():
                return self._examples(self.path / split, n, self._classes(split))
        if (self.path / "train").is_dir():
            raise DataError(
                f"data {self.path}: expected a folder test or val beside train, got none; "
                "name the folder of images itself to measure on them"
            )
        return self._examples(self.path, n, _folders(self.path))

    def train(self) -> Examples | None:
        """Return the images of ``train``, ``None`` where there is no such folder."""
        train = self.path / "train"
        return self._examples(train, None, _folders(train)) if train.is_dir() else None

    def _classes(self, split: str) -> list[str]:
        """Return the names that number the classes: those of ``train`` where it is there, which is what a model
        was trained with, else the split's own.
        """
        here = _folders(self.path / split)
        if not (self.path / "train").is_dir():
            return here
        classes = _folders(self.path / "train")
        unknown = [name for name in here if name not in classes]
        if unknown:
            raise DataError(
                f"data {self.path}: {split} has classes that train has not: {', '.join(unknown[:5])}; "
                "rename or remove them, so that both number the classes alike"
            )
        return classes

    def _examples(self, folder: Path, n: int | None, classes: list[str]) -> Examples:
        files = [
            (path, label)
            for label, name in enumerate(classes)
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.lower() in ENDINGS
        ]
        if not files:
            got = f"no image in {len(classes)} sub-folders" if classes else "no sub-folder"
            raise DataError(f"data {folder}: expected one sub-folder of images per class, got {got}")
        if n is not None and n > len(files):
            raise DataError(f"data {folder}: expected at least {n} images, got {len(files)}; lower n")
        order = Rng(0, ("folder",)).numpy().permutation(len(files))[:n]
        chosen = [files[i] for i in order]
        images = [self._image(path) for path, _ in chosen]
        sizes = sorted({f"{image.shape[1]}x{image.shape[2]}" for image in images})
        if len(sizes) > 1:
            raise DataError(
                f"data {folder}: expected images of one size, got {', '.join(sizes[:3])}"
                f"{' ...' if len(sizes) > 3 else ''}; "
                "give a size to resize and crop them to (--size 224)"
            )
        if len({len(image) for image in images}) > 1:  # colour sets hold some grey files
            images = [np.broadcast_to(image, (3, *image.shape[1:])) for image in images]
        labels = torch.tensor([label for _, label in chosen])
        return Examples(torch.from_numpy(np.stack(images)), labels, len(classes), f"data {folder}")

    def _image(self, path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as opened:
                if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
                    raise DataError(
                        f"data: {path} has more than 8 bits per channel (mode {opened.mode}); "
                        "convert the images to 8 bits, or give them as float in a .npz file"
                    )
                image = opened.convert("L" if opened.mode in ("L", "LA", "1") else "RGB")
        # Pillow answers damage with any of these
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
            raise DataError(f"data: {path} is no image that can be read; remove it") from None
        if self.size is not None:
            image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _folders(folder: Path) -> list[str]:
    """Return the names of the sub-folders in alphabetical order, hidden ones left out."""
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
