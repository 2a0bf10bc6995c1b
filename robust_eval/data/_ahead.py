"""Parts of a set that are asked for one after another: those next in turn are decoded meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from robust_eval.data._examples import Examples
from robust_eval.data._streamed import Streamed
from robust_eval.types import Images

__all__ = ["InTurn"]


class InTurn:
    """Gives the pixels of parts of a set, as :meth:`Examples.pixels` does, and reads ahead while they come in turn."""

    def __init__(self, examples: Examples, parts: Sequence[slice]) -> None:
        self._examples = examples
        self._parts = parts
        self._next = 0
        self._coming: Iterator[Images] | None = None

    def pixels(self, which: Tensor | slice) -> Images:
        """Return images [n,c,h,w] as float32 in [0, 1]; raises ``DataError`` for a file that cannot be read."""
        if not isinstance(self._examples.images, Streamed) or isinstance(which, Tensor):
            return self._examples.pixels(which)
        if which not in self._parts:
            return self._examples.pixels(which)
        place = self._parts.index(which)
        if self._coming is None or place != self._next:
            self._coming = self._examples.batches(self._parts[place:])
        self._next = place + 1
        images = next(self._coming)
        if self._next == len(self._parts):  # whose threads end
            self._coming = None
        return images
