"""How a record was made."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch

from robust_eval.evaluation.workbench import Workbench
from robust_eval.results.cell import Cell

__all__ = ["provenance"]


def provenance(cell: Cell, bench: Workbench, rows: pd.DataFrame, seconds: float) -> dict[str, Any]:
    """Return what a record says about how it was made."""
    training = bench.training(cell)
    return {
        "seconds": round(seconds, 4),
        **{name: int(rows[name].sum()) for name in ("forwards", "backwards") if name in rows},
        "device": str(bench.device),
        "weights_sha256": bench.weights_sha256(cell),
        **({} if training is None else {"training": training}),
        "versions": {
            "robust-eval": version("robust-eval"),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
