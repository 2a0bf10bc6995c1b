"""What several cells need, kept up to a number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from cachetools import LRUCache
from torch import Tensor, nn

__all__ = ["Kept"]

T = TypeVar("T")


class Kept:
    """Values under keys, up to ``memory`` bytes of tensors; the least recently used goes first.

    A value beyond all of that is kept as well, until the next such value: a network as large as that would be loaded
    anew for each cell otherwise.
    """

    def __init__(self, memory: int) -> None:
        self._values: LRUCache[Hashable, Any] = LRUCache(memory, getsizeof=_bytes)
        self._oversize: LRUCache[Hashable, Any] = LRUCache(1)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values or key in self._oversize

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under ``key``, made now if it is not."""
        for kept in (self._values, self._oversize):
            if key in kept:
                return cast("T", kept[key])
        made = make()
        # an LRUCache refuses what is larger than itself
        fits = _bytes(made) <= self._values.maxsize
        (self._values if fits else self._oversize)[key] = made
        return made


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, nn.Module):
        return sum(tensor.nbytes for tensor in (*value.parameters(), *value.buffers()))
    return sum(map(_bytes, value)) if isinstance(value, tuple) else 0
