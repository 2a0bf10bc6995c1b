"""Images that stay in their files: threads decode them when they are asked for, and the next batches meanwhile.

However many there are, at most ``AHEAD + 2`` batches of them lie in memory: one in use, one that is handed over and
those read ahead. What comes depends neither on the number of threads nor on what is read ahead.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from robust_eval.errors import DataError

__all__ = ["Streamed", "decoders"]

AHEAD = 2
"""Batches that are decoded while another one is in use."""


def decoders() -> ThreadPoolExecutor:
    """Return threads to decode with: Pillow works outside of Python's lock."""
    return ThreadPoolExecutor(min(16, os.cpu_count() or 1))


@dataclass(frozen=True, eq=False)
class Streamed:
    """Images [n,c,h,w] in files, uint8. Indexing decodes; ``select`` and ``shape`` do not.

    Reading raises ``DataError`` naming the first file, in the order asked for, that is no image or is of another shape.
    """

    root: Path
    names: NDArray[Any]
    """Files, below ``root``. As bytes: a million ``Path`` objects take half a gigabyte."""
    read: Callable[[Path], NDArray[np.uint8]]
    """Decodes one file to [c,h,w]."""
    image: tuple[int, int, int]
    """Channels, height and width of each."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> torch.Size:
        """``[n, c, h, w]``."""
        return torch.Size((len(self), *self.image))

    @property
    def dtype(self) -> torch.dtype:
        """``torch.uint8``."""
        return torch.uint8

    def select(self, which: Tensor | slice) -> Streamed:
        """Return the images at these positions, still in their files."""
        return replace(self, names=self._at(which))

    def __getitem__(self, which: Tensor | slice) -> UInt8[Tensor, "m c h w"]:
        return next(self.batches([which]))

    def batches(self, parts: Iterable[Tensor | slice]) -> Iterator[UInt8[Tensor, "_ c h w"]]:
        """Yield the images at each of these positions; the threads end with the iterator."""
        pool, waiting = decoders(), deque[_Batch]()
        try:
            for which in parts:
                waiting.append(self._begin(which, pool))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().finished()
            while waiting:
                yield waiting.popleft().finished()
        finally:
            pool.shutdown(cancel_futures=True)

    def _at(self, which: Tensor | slice) -> NDArray[Any]:
        names: NDArray[Any] = self.names[which.cpu().numpy() if isinstance(which, Tensor) else which]
        return names

    def _begin(self, which: Tensor | slice, pool: ThreadPoolExecutor) -> _Batch:
        names = self._at(which)
        images = np.empty((len(names), *self.image), np.uint8)
        return _Batch(images, [pool.submit(self._put, images, i, name) for i, name in enumerate(names)])

    def _put(self, images: NDArray[np.uint8], i: int, name: bytes) -> None:
        path = self.root / os.fsdecode(name)
        image = self.read(path)
        if image.shape != self.image:
            raise DataError(
                f"data: expected images of {_shape(self.image)}, got {path} of {_shape(image.shape)}; "
                "give a size to resize and crop them to (--size 224)"
            )
        images[i] = image


class _Batch(NamedTuple):
    """Images on their way into one array."""

    images: NDArray[np.uint8]
    running: list[Future[None]]

    def finished(self) -> UInt8[Tensor, "n c h w"]:
        for future in self.running:
            future.result()
        return torch.from_numpy(self.images)


def _shape(image: tuple[int, ...]) -> str:
    return "x".join(map(str, image))
