"""How many passes each example has cost."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["Ledger"]


class Ledger:
    """How many forward and backward passes each row has cost, and how often its gradient was zero or not finite.

    Rows are the example ids that the random stream of a call carries. ``told`` is called with the passes of all rows
    so far, forward and backward, after each change.
    """

    def __init__(self, told: Callable[[int], None] | None = None) -> None:
        self._counts = torch.zeros(4, 0, dtype=torch.int64)
        self._told = told
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

    def padded(self, name: str, n: int) -> Int[Tensor, " n"]:
        """The counts of rows 0..n-1, zero for rows that were never seen."""
        counts = self[name][:n]
        return torch.cat([counts, counts.new_zeros(n - len(counts))])
