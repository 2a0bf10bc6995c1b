"""What was measured: a summary with intervals, the checks beside it, provenance, and one row per example."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from robust_eval.fields import Whole
from robust_eval.findings import SCHEMA, Check, Measurement, Verdict

__all__ = ["Record"]


@dataclass(frozen=True, eq=False)
class Record:
    """The outcome of one cell.

    ``rows`` holds one example per row: index, label, clean_prediction, prediction, confidence, nll, brier, rank of the
    label, clean_score and score (correct or not; the share of draws for a stochastic model; under attack 0 for an image
    that the scored model gets wrong when clean, by majority over draws), attacked, distance (in the attack's norm),
    distance_linf, distance_l2, step (first step fooled, -1 if never), forwards, backwards; in an estimate stratum and
    stratum_size (:mod:`robust_eval.results.estimates`), and no row of an image that was not asked for; p0, p1, ...,
    the probability of each class, where there are at most 20; certified_prediction and certified_radius where a defense
    certifies. An
    examination has no measurements; its rows hold index, label, clean_prediction, forwards, backwards and
    ``broken_at``, the shortest perturbation of its own that fooled the model (NaN if none). The rows of an analysis are
    what it found, in columns of its own.
    """

    key: str
    spec: dict[str, Any]
    """What the key is a hash of."""
    labels: dict[str, Any]
    """Words and numbers for the report."""
    summary: tuple[Measurement, ...]
    checks: tuple[Check, ...]
    provenance: dict[str, Any]
    """What may differ without changing the measurement: seconds, versions, device, counters, file hashes."""
    rows: pd.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows, as plain data."""
        return {
            "schema": SCHEMA,
            "key": self.key,
            "spec": self.spec,
            "labels": self.labels,
            "summary": [_stored(measurement) for measurement in self.summary],
            "checks": [asdict(check) for check in self.checks],
            "provenance": self.provenance,
        }

    @classmethod
    def from_json(cls, data: object, rows: pd.DataFrame) -> Record:
        """The inverse of :meth:`to_json`; raises ``ValueError`` for data of another form or with other types."""
        stored = _Stored.model_validate(data)
        return cls(
            key=stored.key,
            spec=stored.spec,
            labels=stored.labels.model_dump(exclude_unset=True),
            summary=tuple(Measurement(**item.model_dump()) for item in stored.summary),
            checks=tuple(Check(**item.model_dump()) for item in stored.checks),
            provenance=stored.provenance,
            rows=rows,
        )


def _stored(measurement: Measurement) -> dict[str, Any]:
    """Return it as plain data: what is no estimate says nothing of one, as in records of older versions."""
    found = asdict(measurement)
    return {name: value for name, value in found.items() if name != "estimated_for" or value is not None}


class _Strict(BaseModel):
    """Nothing but what is named, and no type in place of another."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Measured(_Strict):
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    eps: float | None = None
    estimated_for: Annotated[int, Field(ge=1)] | None = None


class _Checked(_Strict):
    name: str
    verdict: Verdict
    figure: float
    advice: str


Seed = Annotated[Whole, Field(ge=-(2**63), lt=2**63)]


class _Labels(_Strict):
    """The labels that tables and comparisons compute with; others are words."""

    model_config = ConfigDict(extra="allow", strict=True)

    family: str | None = None
    params: dict[str, Any] | None = None
    defense_params: dict[str, Any] | None = None
    eps: float | None = None
    severity: int | None = None
    seed: Seed | None = None
    train_seed: Seed | None = None


class _Stored(_Strict):
    schema_: int = Field(alias="schema")
    key: str
    spec: dict[str, Any]
    labels: _Labels
    summary: list[_Measured]
    checks: list[_Checked]
    provenance: dict[str, Any]
