"""Image files become one uint8 tensor: which of them, in which order, at which side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from robust_eval.data._examples import Examples
from robust_eval.data._source import Choose
from robust_eval.errors import DataError
from robust_eval.rng import Rng

__all__ = ["File", "Reader", "in_class_folders", "shuffled", "sub_folders"]

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
AT_ONCE = 512
"""Files decoded before they are copied into place: bounds memory."""


class File(NamedTuple):
    """An image file and the number of its class."""

    path: Path
    label: int


def sub_folders(folder: Path) -> list[str]:
    """Return the names of the sub-folders in alphabetical order, hidden ones left out."""
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")


def in_class_folders(folder: Path, classes: Sequence[str]) -> list[File]:
    """Return the images in the sub-folders of these names, class by class, at any depth."""
    files = [
        File(path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in ENDINGS
    ]
    if not files:
        got = f"no image in {len(classes)} sub-folders" if classes else "no sub-folder"
        raise DataError(f"data {folder}: expected one sub-folder of images per class, got {got}")
    return files


def shuffled(files: Sequence[File]) -> list[File]:
    """Return the files in a fixed shuffled order: sorted by class, the first of them would be one class."""
    return [files[i] for i in Rng(0, ("folder",)).numpy().permutation(len(files))]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How the files of a set are read."""

    where: str
    """What messages begin with."""
    classes: int
    size: int | None = None
    """Side in pixels to which images are cropped at the centre; ``None`` leaves them as they are."""
    resize: int | None = None
    """Length of the shorter side before the crop; ``None`` is ``size``."""
    colour: bool = False
    """Whether grey files are read as colour even if all of them are grey."""

    def examples(
        self, files: Sequence[File], *, n: int | None = None, choose: Choose | None = None
    ) -> Examples:
        """Return the first ``n`` images, or those that ``choose`` picks by their labels; no others are opened."""
        if n is not None and n > len(files):
            raise DataError(f"{self.where}: expected at least {n} images, got {len(files)}; lower n")
        files = files[:n]
        labels = torch.tensor([file.label for file in files])
        if choose is not None:
            chosen = choose(labels)
            files, labels = [files[i] for i in chosen.tolist()], labels[chosen]
        return Examples(self._images([file.path for file in files]), labels, self.classes, self.where)

    def _images(self, paths: Sequence[Path]) -> UInt8[Tensor, "n c h w"]:
        first = self._image(paths[0])
        self._require_room(len(paths), first)
        images = np.empty((len(paths), *first.shape), np.uint8)
        sizes = set()
        for i, image in enumerate(self._decoded(paths)):
            sizes.add(f"{image.shape[1]}x{image.shape[2]}")
            if len(sizes) > 1:
                continue
            if len(image) > images.shape[1]:  # colour sets hold some grey files
                images = np.repeat(images, len(image), axis=1)
            images[i] = image
        if len(sizes) > 1:
            raise DataError(
                f"{self.where}: expected images of one size, got {', '.join(sorted(sizes)[:3])}"
                f"{' ...' if len(sizes) > 3 else ''}; "
                "give a size to resize and crop them to (--size 224)"
            )
        return torch.from_numpy(images)

    def _require_room(self, n: int, first: NDArray[np.uint8]) -> None:
        from robust_eval.memory import available

        needed, free = n * first.nbytes, available(torch.device("cpu"))
        if free is not None and needed > free:
            raise DataError(
                f"{self.where}: expected images that fit into memory, got {n} of "
                f"{'x'.join(map(str, first.shape))}, {needed / 1e9:.1f} GB where {free / 1e9:.1f} GB are free; "
                "take fewer test images (n), fewer training images of each class (per_class) or a smaller size"
            )

    def _decoded(self, paths: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
        # Pillow decodes outside of Python's lock
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for start in range(0, len(paths), AT_ONCE):
                yield from pool.map(self._image, paths[start : start + AT_ONCE])

    def _image(self, path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as opened:
                if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
                    raise DataError(
                        f"data: {path} has more than 8 bits per channel (mode {opened.mode}); "
                        "convert the images to 8 bits, or give them as float in a .npz file"
                    )
                grey = not self.colour and opened.mode in ("L", "LA", "1")
                image = opened.convert("L" if grey else "RGB")
        # Pillow answers damage with any of these
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
            raise DataError(f"data: {path} is no image that can be read; remove it") from None
        array = np.asarray(self._cropped(image))
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)

    def _cropped(self, image: Image.Image) -> Image.Image:
        if self.size is None:
            return image
        if self.resize is None:
            return ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        # to whole pixels twice, as torchvision's Resize and CenterCrop do, whose numbers are the published ones
        shorter = min(image.size)
        width, height = (int(self.resize * side / shorter) for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        return image.crop((left, top, left + self.size, top + self.size))
