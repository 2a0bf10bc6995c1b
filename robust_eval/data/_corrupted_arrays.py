"""Corrupted images in the layout of CIFAR-10-C: ``TYPE.npy`` and ``labels.npy``.

A file holds uint8 [5n,h,w,c], the n test images in their order at severity 1, then at 2, up to 5; labels [5n] are
repeated for each. The published files hold n = 10,000 images of 32 x 32 x 3: 154 MB for a type. They are mapped into
memory, and what is read of them is what is measured.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from robust_eval.data._corrupted import SEVERITIES, Block, CorruptedFiles, require_labels
from robust_eval.data._corrupted_notes import Notes
from robust_eval.data._examples import Examples
from robust_eval.errors import DataError
from robust_eval.paths import what_is

__all__ = ["ArrayFiles"]

AT_ONCE = 512
"""Images hashed at a time: bounds memory."""
FIX = "fetch it again, or write one with robust-eval corrupt"


@dataclass(frozen=True, eq=False)
class ArrayFiles(CorruptedFiles):
    """A folder of ``.npy`` files."""

    folder: Path
    types: tuple[str, ...]

    @property
    def severities(self) -> dict[str, tuple[int, ...]]:
        """All five of each type."""
        return dict.fromkeys(self.types, SEVERITIES)

    def block(self, type_: str, severity: int, examples: Examples) -> Block:
        """Return the block of the file."""
        path = self.folder / f"{type_}.npy"
        images = _mapped(path)
        if images.dtype != np.uint8 or images.ndim != 4:
            raise DataError(
                f"corrupted {path}: expected uint8 images [5n,h,w,channels], got {images.dtype} of shape "
                f"{list(images.shape)}; {FIX}"
            )
        labels = self._labels
        if len(images) != len(SEVERITIES) * len(labels):
            raise DataError(
                f"corrupted {path}: expected {len(SEVERITIES) * len(labels)} images, one for each of labels.npy, "
                f"got {len(images)}; {FIX}"
            )
        channels, height, width = examples.shape
        if images.shape[1:] != (height, width, channels):
            fix = "measure the set they were made from"
            if images.shape[1:] == (channels, height, width):
                fix = "the channels go last: images.transpose(0, 2, 3, 1)"
            raise DataError(
                f"corrupted {path}: expected images of {height}x{width}x{channels} like those measured, got "
                f"{'x'.join(map(str, images.shape[1:]))}; {fix}"
            )
        require_labels(self.folder, labels, examples)
        self._notes.require_images(examples)
        self._notes.require_whole(path)
        first = SEVERITIES.index(severity) * len(labels)
        used = images[first : first + len(examples)]

        def read(positions: NDArray[np.int64]) -> UInt8[Tensor, "m c h w"]:
            return torch.from_numpy(np.asarray(used[positions])).permute(0, 3, 1, 2)

        return Block(type_, severity, self.folder.resolve().name, _sha256(used), read)

    @cached_property
    def _notes(self) -> Notes:
        return Notes(self.folder)

    @cached_property
    def _labels(self) -> NDArray[Any]:
        """The labels of one block."""
        path = self.folder / "labels.npy"
        labels = _mapped(path)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or len(labels) % len(SEVERITIES):
            raise DataError(
                f"corrupted {path}: expected whole numbers [5n], n for each severity, got {labels.dtype} of shape "
                f"{list(labels.shape)}; {FIX}"
            )
        blocks = np.asarray(labels).reshape(len(SEVERITIES), -1)
        if (other := (blocks != blocks[0]).any(1)).any():
            raise DataError(
                f"corrupted {path}: expected the same {blocks.shape[1]} labels for each of the five severities, got "
                f"others for severity {SEVERITIES[int(other.argmax())]}; {FIX}"
            )
        found: NDArray[Any] = blocks[0].astype(np.int64)
        return found


def _mapped(path: Path) -> NDArray[Any]:
    if (lies := what_is(path)) not in ("a file", "none"):
        raise DataError(f"corrupted {path}: expected a .npy file, got {lies}; {FIX}")
    try:
        array: NDArray[Any] = open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DataError(f"corrupted {path.parent}: expected {path.name} in it, got none; {FIX}") from None
    except OSError as error:
        raise DataError(f"corrupted {path}: cannot be read ({error.strerror})") from None
    except (ValueError, EOFError, OverflowError, SyntaxError, TypeError):
        raise DataError(
            f"corrupted {path}: expected a whole .npy file of plain numbers, got a damaged or another one; {FIX}"
        ) from None
    return array


def _sha256(images: NDArray[Any]) -> str:
    digest = hashlib.sha256(repr(images.shape).encode())
    for start in range(0, len(images), AT_ONCE):
        digest.update(np.ascontiguousarray(images[start : start + AT_ONCE]).data)
    return digest.hexdigest()
