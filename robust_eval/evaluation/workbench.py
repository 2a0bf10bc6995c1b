"""What the cells of one worker share: loaded models, and results that several cells need.

Everything kept is a pure function of what it is kept under, so a cell gives the same record whether or not another has
already made what it needs. The undefended adversarials, say, serve the plain model and every defense that is attacked
by transfer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from robust_eval.classifier.accelerate import Precision
from robust_eval.evaluation.kept import Kept
from robust_eval.evaluation.prepared import Execution, Prepared, Told, untold
from robust_eval.models.source import Loaded, ModelSource
from robust_eval.results.cell import Cell

__all__ = ["Workbench"]


class Workbench:
    """Loads each model once and keeps what cells share, up to ``memory`` bytes.

    ``told`` is called with what of a cell is made, how much of it is done, and of how much at most.
    """

    def __init__(
        self,
        load: Callable[[ModelSource], Loaded],
        *,
        device: str = "cpu",
        batch_size: int | None = None,
        precision: Precision = "auto",
        compiled: bool = False,
        memory: int = 1 << 30,
        told: Told = untold,
    ) -> None:
        self._load = load
        self._told = told
        self._execution = Execution(torch.device(device), batch_size, precision, compiled)
        self._kept = Kept(memory)

    def prepare(self, cell: Cell) -> Prepared:
        """Return a cell with what measuring it needs; nothing of it is made before it is asked for."""
        return Prepared(cell, self._execution, load=self._load, kept=self._kept, told=self._told)
