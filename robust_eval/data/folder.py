"""A folder with one sub-folder of images per class, or ``test``/``val`` and ``train`` folders of such.

Folders are sorted by class, so "the first n" would be one class: the images are taken in a fixed shuffled order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

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
                return self._examples(self.path / split, n)
        if (self.path / "train").is_dir():
            raise DataError(f"data {self.path}: expected a folder test or val beside train, got none")
        return self._examples(self.path, n)

    def train(self) -> Examples | None:
        """Return the images of ``train``, ``None`` where there is no such folder."""
        return self._examples(self.path / "train", None) if (self.path / "train").is_dir() else None

    def _examples(self, folder: Path, n: int | None) -> Examples:
        classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
        files = [
            (path, label)
            for label, name in enumerate(classes)
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.lower() in ENDINGS
        ]
        if not files:
            raise DataError(
                f"data {folder}: expected one sub-folder of images per class, got "
                f"{len(classes)} sub-folders without images"
            )
        if n is not None and n > len(files):
            raise DataError(f"data {folder}: expected at least {n} images, got {len(files)}; lower n")
        order = Rng(0, ("folder",)).numpy().permutation(len(files))[:n]
        chosen = [files[i] for i in order]
        images = [self._image(path) for path, _ in chosen]
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            sizes = ", ".join(sorted(f"{h}x{w}" for _, h, w in shapes)[:3])
            raise DataError(
                f"data {folder}: expected images of one size, got {sizes}{' ...' if len(shapes) > 3 else ''}; "
                "give a size to resize and crop them to (--size 224)"
            )
        labels = torch.tensor([label for _, label in chosen])
        return Examples(torch.from_numpy(np.stack(images)), labels, len(classes), f"data {folder}")

    def _image(self, path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as opened:
                image = opened.convert("L" if opened.mode in ("L", "1") else "RGB")
        except (OSError, UnidentifiedImageError):
            raise DataError(f"data: {path} is no image that can be read; remove it") from None
        if self.size is not None:
            image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
