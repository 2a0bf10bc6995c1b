"""Image files become one uint8 tensor, or a stream of them, at one side."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from robust_eval.data._class_folders import File, readable
from robust_eval.data._contents import ON_DISK, Contents
from robust_eval.data._examples import Examples
from robust_eval.data._seen import GREY, as_seen
from robust_eval.data._source import Choose
from robust_eval.data._streamed import Streamed, decoders
from robust_eval.data._unreadable import left_out, unreadable
from robust_eval.errors import DataError
from robust_eval.identity import BY_FILES

__all__ = ["Interpolation", "Reader", "Resize"]

log = logging.getLogger(__name__)

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
"""How images are resized, by the words of Pillow."""
Resize = int | Literal["squash"]
"""Length of the shorter side before a crop, or ``squash``, which resizes both sides to that of the crop."""

AT_ONCE = 512
"""Files decoded before they are copied into place: bounds memory."""
LARGE = 4 << 30
"""Bytes of pixels from which the files of a set are hashed instead. A constant, so that a set has the same fingerprint
on every machine."""
SAMPLED = 256
"""Images of a large test set whose pixels are hashed beside its files, spread over the set."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How the files of a set are read."""

    where: str
    """What messages begin with."""
    root: Path
    """Folder that all files lie in."""
    classes: int
    size: int | None = None
    """Side in pixels to which images are cropped at the centre; ``None`` leaves them as they are."""
    resize: Resize | None = None
    """Length of the shorter side before the crop; ``None`` is ``size``."""
    interpolation: Interpolation = "bilinear"
    colour: bool = False
    """Whether grey files are read as colour even if all of them are grey."""
    names: tuple[str, ...] | None = None
    """Of the classes, if they are known."""
    fix: str = "remove it"
    """What to do about a file that cannot be read."""
    skip_unreadable: bool = False
    """Whether images that cannot be read are left out, which is said, and do not end the reading."""
    upright: bool = True
    """Whether the rotation that a camera noted is carried out."""
    contents: Contents = ON_DISK
    """Where the images lie."""

    def examples(
        self,
        files: Sequence[File],
        *,
        n: int | None = None,
        choose: Choose | None = None,
        stream: bool = False,
        training: bool = True,
    ) -> Examples:
        """Return the first ``n`` images, or those that ``choose`` picks by their labels; no others are opened.

        What does not fit into memory raises ``DataError``, or is left in its files if told to ``stream``: of a set that
        would take more than half of the memory, which what is done with it takes as well. A large set is told by its
        files and not by all of its pixels (:attr:`Examples.fingerprint`), test images also by the pixels of some.
        """
        if n is not None and n > len(files):
            raise DataError(f"{self.where}: expected at least {n} images, got {len(files)}; lower n")
        if choose is not None:
            chosen = choose(torch.tensor([file.label for file in files]))
            files = [files[i] for i in chosen.tolist()]
        files = self._readable(files, n) if self.skip_unreadable else files[:n]
        labels = torch.tensor([file.label for file in files])
        paths = [file.path for file in files]
        first = self._first(paths)
        size = len(paths) * first.nbytes
        streamed = stream and _free() < 2 * size
        large = stream and size > LARGE
        files_names = self._names(paths) if streamed or large else []
        if streamed:
            images: Tensor | Streamed = self._streamed(files_names, paths, first)
        else:
            self._require_room(len(paths), first)
            images = self._images(paths, first)
        files_sha256 = self._files_sha256(files_names, paths) if large else None
        if files_sha256 is not None and not training:
            files_sha256 = self._sampled(files_sha256, paths, images)
        names = None if self.names is None else tuple(map(readable, self.names))
        return Examples(
            images, labels, self.classes, self.where, files_sha256=files_sha256, class_names=names
        )

    def _names(self, paths: Sequence[Path]) -> list[bytes]:
        return [os.fsencode(os.path.relpath(path, self.root)) for path in paths]

    def _readable(self, files: Sequence[File], n: int | None) -> list[File]:
        """Return the first ``n`` files that can be read; says which others there were."""
        kept: list[File] = []
        bad: list[Path] = []
        wanted = len(files) if n is None else n
        with decoders() as pool:
            for start in range(0, len(files), AT_ONCE):
                part = files[start : start + AT_ONCE]
                for file, image in zip(part, pool.map(self._tried, [f.path for f in part]), strict=True):
                    if len(kept) < wanted:
                        (bad.append(file.path) if image is None else kept.append(file))
                if len(kept) == wanted:
                    break
        if bad:
            left_out(self.where, bad, len(kept) + len(bad))
        if (n is not None and len(kept) < n) or not kept:
            raise DataError(
                f"{self.where}: expected at least {n or 1} images that can be read, got {len(kept)}; lower n"
            )
        return kept

    def _first(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        """Return the first image that can be read: all have its size."""
        for path in paths:
            if (image := self._tried(path)) is not None:
                return image
        raise unreadable(self.where, paths, len(paths), self.fix)

    def _tried(self, path: Path) -> NDArray[np.uint8] | None:
        """Return an image, ``None`` where it cannot be read."""
        try:
            return self._image(path)
        except DataError:
            return None

    def _streamed(self, names: Sequence[bytes], paths: Sequence[Path], first: NDArray[np.uint8]) -> Streamed:
        # colour sets hold some grey files: of a set in colour, few files are looked at
        colour = self.colour or any(not self._is_grey(path) for path in paths)
        image = (3 if colour else 1, *first.shape[1:])
        return Streamed(self.root, np.array(names), replace(self, colour=colour)._image, image)

    def _files_sha256(self, names: Sequence[bytes], paths: Sequence[Path]) -> str:
        digest = hashlib.sha256(repr((self.size, self.resize, self.colour)).encode())
        if self.interpolation != "bilinear":  # as it was before there was another
            digest.update(self.interpolation.encode())
        for name, path in zip(names, paths, strict=True):
            try:
                size = self.contents.size(path)
            except OSError as error:
                raise DataError(f"data: {path} cannot be read ({error.strerror}); {self.fix}") from None
            digest.update(b"%s\0%d\0" % (name, size))
        return digest.hexdigest()

    def _sampled(self, files_sha256: str, paths: Sequence[Path], images: Tensor | Streamed) -> str:
        """Return a hash of the files and of the pixels of some images, and say so."""
        some = torch.linspace(0, len(paths) - 1, min(SAMPLED, len(paths)), dtype=torch.float64).long()
        log.warning(
            "%s: %s images of %.1f GB are told by the names and sizes of their files and by the pixels of %s of them, "
            "not of all", self.where, f"{len(paths):,}", math.prod(images.shape) / 1e9, len(some),
        )  # fmt: skip
        digest = hashlib.sha256(files_sha256.encode())
        for start in range(0, len(some), AT_ONCE):
            digest.update(images[some[start : start + AT_ONCE]].numpy().tobytes())
        return digest.hexdigest() + BY_FILES

    def _images(self, paths: Sequence[Path], first: NDArray[np.uint8]) -> UInt8[Tensor, "n c h w"]:
        images = np.empty((len(paths), *first.shape), np.uint8)
        sizes, bad = set(), []
        for i, image in enumerate(self._decoded(paths)):
            if image is None:
                bad.append(paths[i])
                continue
            sizes.add(f"{image.shape[1]}x{image.shape[2]}")
            if len(sizes) > 1:
                continue
            if len(image) > images.shape[1]:  # colour sets hold some grey files
                images = np.repeat(images, len(image), axis=1)
            images[i] = image
        if bad:
            raise unreadable(self.where, bad, len(paths), self.fix)
        if len(sizes) > 1:
            raise DataError(
                f"{self.where}: expected images of one size, got {', '.join(sorted(sizes)[:3])}"
                f"{' ...' if len(sizes) > 3 else ''}; "
                "give a size to resize and crop them to (--size 224)"
            )
        return torch.from_numpy(images)

    def _require_room(self, n: int, first: NDArray[np.uint8]) -> None:
        needed, free = n * first.nbytes, _free()
        if needed > free:
            raise DataError(
                f"{self.where}: expected images that fit into memory, got {n} of "
                f"{'x'.join(map(str, first.shape))}, {needed / 1e9:.1f} GB where {free / 1e9:.1f} GB are free; "
                "take fewer test images (n) or a smaller size"
            )

    def _decoded(self, paths: Sequence[Path]) -> Iterator[NDArray[np.uint8] | None]:
        with decoders() as pool:
            for start in range(0, len(paths), AT_ONCE):
                yield from pool.map(self._tried, paths[start : start + AT_ONCE])

    def _image(self, path: Path) -> NDArray[np.uint8]:
        with self._opened(path) as opened:
            image = as_seen(opened, colour=self.colour, upright=self.upright)
        array = np.asarray(self._cropped(image))
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[Image.Image]:
        """Open an image; raises ``DataError`` for what is none, and for damage found within."""
        try:
            with Image.open(self.contents.open(path)) as opened:
                yield opened
        # Pillow answers damage with any of these
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
            raise unreadable("data", [path], 1, self.fix) from None

    def _is_grey(self, path: Path) -> bool:
        """Whether a file has no colour, by its first bytes."""
        with self._opened(path) as opened:
            return opened.mode in GREY

    def _cropped(self, image: Image.Image) -> Image.Image:
        if self.size is None:
            return image
        way = Image.Resampling[self.interpolation.upper()]
        if self.resize is None:
            return ImageOps.fit(image, (self.size, self.size), way)
        if self.resize == "squash":
            return image.resize((self.size, self.size), way)
        # to whole pixels twice, as torchvision's Resize and CenterCrop do, whose numbers are the published ones
        shorter = min(image.size)
        width, height = (int(self.resize * side / shorter) for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        image = image.resize((width, height), way)
        return image.crop((left, top, left + self.size, top + self.size))


def _free() -> float:
    """Return the free memory in bytes, infinite where the system does not say."""
    from robust_eval.machine import available

    free = available(torch.device("cpu"))
    return math.inf if free is None else float(free)
