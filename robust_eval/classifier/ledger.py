"""How many passes each example has cost, and in what batches they were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["Batches", "Ledger", "Way", "condensed"]

Way = Literal["forward", "backward"]
Batches = Counter[tuple[Way, str, int]]
"""How often the network was asked in this way, in this precision, about so many images at once."""

SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


def condensed(batches: Batches) -> dict[str, dict[str, list[int]]]:
    """Return calls and images by way and precision (``"forward bf16"``) and by size, down to a power of two."""
    found: dict[str, dict[str, list[int]]] = {}
    for (way, precision, size), calls in sorted(batches.items()):
        sizes = found.setdefault(f"{way} {precision}", {})
        total = sizes.setdefault(str(1 << size.bit_length() - 1), [0, 0])
        total[0] += calls
        total[1] += calls * size
    return found


class Ledger:
    """How many forward and backward passes each row has cost, and how often its gradient was zero or not finite.

    Rows are the example ids that the random stream of a call carries. ``told`` is called with the passes of all rows
    so far, forward and backward, after each change.

    ``batches`` counts the calls of the network for these rows by way, precision and size: what the same passes would
    cost with nothing around them. A size counts the copies that go through the network for one image.
    """

    def __init__(self, told: Callable[[int], None] | None = None) -> None:
        self._counts = torch.zeros(4, 0, dtype=torch.int64)
        self._told = told
        self.batches: Batches = Counter()
        self._passes = 0

    def __getitem__(self, name: str) -> Int[Tensor, " rows"]:
        """The counts of ``forwards``, ``backwards``, ``zero_gradients`` or ``bad_gradients``, indexed by row id."""
        return self._counts[self.NAMES.index(name)]

    NAMES = ("forwards", "backwards", "zero_gradients", "bad_gradients")

    def add(self, name: str, rows: Int[Tensor, " n"], amount: int | Tensor = 1) -> None:
        """Add ``amount`` to the count of each of these rows; a row that comes twice is counted twice."""
        rows = rows.cpu()
        missing = int(rows.max()) + 1 - self._counts.shape[1] if len(rows) else 0
        if missing > 0:
            self._counts = torch.cat([self._counts, torch.zeros(4, missing, dtype=torch.int64)], 1)
        amounts = amount if isinstance(amount, Tensor) else torch.full_like(rows, amount)
        self._counts[self.NAMES.index(name)].index_add_(0, rows, amounts.cpu().long())
        if self._told is not None and name in ("forwards", "backwards"):
            self._passes += int(amounts.sum())
            self._told(self._passes)

    def add_batch(self, way: Way, dtype: torch.dtype, size: int) -> None:
        """Count a call of the network about so many images at once."""
        if size:
            self.batches[way, SHORT.get(dtype, str(dtype).removeprefix("torch.")), size] += 1

    def padded(self, name: str, n: int) -> Int[Tensor, " n"]:
        """The counts of rows 0..n-1, zero for rows that were never seen."""
        counts = self[name][:n]
        return torch.cat([counts, counts.new_zeros(n - len(counts))])
