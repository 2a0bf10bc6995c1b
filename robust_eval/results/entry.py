"""One record as tables name it, and the columns they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robust_eval.findings import Check
from robust_eval.results.record import Record

__all__ = ["COLUMNS", "Entry"]

COLUMNS = (
    "model", "arch", "regularizer", "defense", "access", "data", "family", "perturbation", "params", "norm",
    "eps", "severity", "metric", "value", "ci_low", "ci_high", "n", "seed", "train_seed", "seconds", "checks",
    "key", "defense_params", "run", "estimated_for",
)  # fmt: skip
"""The columns of results.csv. ``estimated_for`` is empty but for estimates: how many images they are for."""


EXAMINATION = "examination"
"""The family of records that measure nothing."""


ANALYSIS = "analysis"
"""The family of records whose rows are a table of their own."""


@dataclass(frozen=True)
class Entry:
    """One record, with the run it came from and its labels made distinct."""

    record: Record
    run: str
    """The name of the folder that was read."""
    labels: dict[str, Any]
    """The columns of the long table from ``model`` to ``severity``, ``seed`` and ``train_seed``."""
    checks: tuple[Check, ...] = ()
    """Those of the record, of its model's examination and of the records beside it; the worst of each name."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the attack or the corruption."""
        return dict(self.record.labels.get("params") or {})
