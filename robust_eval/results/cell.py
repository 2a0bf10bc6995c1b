"""What is measured, as data: one cell is one model x defense x access x perturbation x data x seed.

A cell's key is a hash of everything that decides its numbers. The record of a cell is stored under that key,
so resuming, caching and sharing work among machines are one thing: run the cells that have no record.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from robust_eval.checks.examination import Examination
from robust_eval.data import Examples
from robust_eval.data.mask import PixelMask
from robust_eval.findings import SCHEMA
from robust_eval.identity import content_key
from robust_eval.methods import Analysis, Attack, Corruption, Defense
from robust_eval.models.source import ModelSource
from robust_eval.printable import printable_all
from robust_eval.registry import Description, describe, described
from robust_eval.threat import Access, threat_text

__all__ = ["Cell", "Data"]

TRAITS = ("gradients", "baseline", "asks_model", "single_step", "beats_single_step")
"""Class attributes of an attack by which its records are compared with others."""
ADAPTATION = 1
"""Version of how attacks are adapted to a model (:mod:`robust_eval.adaptive`); raised when its numbers would change."""
ESTIMATION = 1
"""Version of how images are chosen for an estimate (:mod:`robust_eval.evaluation.sampling`), raised likewise."""


@dataclass(frozen=True)
class Data:
    """The images a cell is measured on, and the training images that a defense may mix with."""

    name: str
    examples: Examples
    pool: Examples | None = None


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    model: ModelSource
    data: Data
    perturbation: Attack | Corruption | Examination | Analysis | None = None
    """``None`` measures the clean images; an examination measures how far the other numbers can be trusted."""
    defense: Defense | None = None
    access: Access = "none"
    seed: int = 0
    draws: int = 10
    """Fresh draws over which a stochastic model is scored."""
    gradient_draws: int | None = None
    """Draws that a gradient through a stochastic model is averaged over; ``None`` takes as many as it needs."""
    score_at: tuple[float, ...] = field(default=(), compare=False)
    """Radii at which a minimal-norm attack is scored from its distances: not part of the key, since they cost
    nothing and can be added to a record later."""
    mask: PixelMask | None = None
    """The pixels that an attack may change; all for ``None``."""
    other: Data | None = None
    """A second set of images, which an analysis compares with."""
    estimate: float | None = None
    """How far from that of all images the accuracy may be, at 95 %: only so many are attacked. ``None`` attacks all."""

    @property
    def family(self) -> str:
        """Clean, attack, corruption, examination or analysis."""
        if self.perturbation is None:
            return "clean"
        return describe(self.perturbation).kind

    @property
    def stochastic(self) -> bool:
        """Whether what is scored depends on draws."""
        return self.model.stochastic or (self.defense is not None and self.defense.stochastic)

    @property
    def pool(self) -> Examples | None:
        """The training images that the defense mixes with or an analysis looks at; ``None`` where none are needed."""
        mixes = self.defense is not None and self.defense.needs_pool
        looks = isinstance(self.perturbation, Analysis) and self.perturbation.needs_training
        return self.data.pool if mixes or looks else None

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Everything that decides the numbers, as plain data."""
        adapted: dict[str, Any] = {} if self.mask is None else {"mask": self.mask.sha256}
        if self.other is not None:
            adapted["other"] = _identity(self.other)
        if self.estimate is not None:
            adapted["estimate"] = {"half_width": self.estimate, "version": ESTIMATION}
        if isinstance(self.perturbation, Examination) or getattr(self.perturbation, "adapts", False):
            adapted["adaptation"] = ADAPTATION
            drawn = self.stochastic if self.access == "adaptive" else self.model.stochastic
            if drawn and self.gradient_draws is not None:
                adapted["gradient_draws"] = self.gradient_draws
        return {
            "schema": SCHEMA,
            "model": self.model.identity,
            "data": _identity(self.data),
            "perturbation": _described(self.perturbation),
            "defense": _described(self.defense),
            "pool": self.pool.fingerprint if self.pool is not None else None,
            "access": self.access,
            "seed": self.seed,
            "draws": self.draws if self.stochastic else None,
            **adapted,
        }

    @cached_property
    def key(self) -> str:
        """sha256 of the spec: the cell's name on disk."""
        return content_key(self.spec)

    @cached_property
    def labels(self) -> dict[str, Any]:
        """The words and numbers a report shows for this cell, one for each of its columns."""
        attack = self.perturbation if isinstance(self.perturbation, Attack) else None
        shown = None if self.perturbation is None else _shown(self.perturbation)
        params = {} if shown is None else shown.params
        found = {
            "model": self.model.name,
            **self.model.labels,
            "defense": "none" if self.defense is None else describe(self.defense).name,
            "defense_params": {} if self.defense is None else describe(self.defense).params,
            "access": self.access,
            "data": self.data.name,
            "family": self.family,
            "perturbation": "none" if shown is None else shown.name,
            "params": params,
            "norm": _norm(attack, self.mask),
            "eps": attack.threat.eps if attack else None,
            "severity": params.get("severity") if self.family == "corruption" else None,
            "seed": self.seed,
            "model_key": content_key(self.model.identity),
            **({} if self.other is None else {"other": self.other.name}),
            **_drawn(self.perturbation),
            **_traits(attack),
        }
        made: dict[str, Any] = printable_all(found)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # without what is computed: another process finds the key out for itself
        return _cell, ({f.name: getattr(self, f.name) for f in fields(self)},)

    def __str__(self) -> str:
        labels = self.labels
        parts = [labels["model"]]
        if self.defense is not None:
            parts.append(
                f"{labels['defense']} ({self.access})" if self.access != "none" else labels["defense"]
            )
        what = "clean" if self.perturbation is None else labels["perturbation"]
        if self.family == "examination":
            what = f"{labels['params']['level']} checks"
            what += f" in {labels['params']['norm']}" if labels["params"].get("norm_only") else ""
        elif self.family == "analysis":
            what += f" ({self.other.name})" if self.other is not None else ""
        elif labels["severity"] is not None:
            what += f" severity {labels['severity']}"
        elif self.family == "corruption":
            what += f" ({', '.join(f'{name}={value}' for name, value in labels['params'].items())})"
        elif labels["eps"] is None and "norm" in labels["params"]:
            what += f" {labels['norm']}"
        elif labels["eps"] is not None:
            what += f" {threat_text(labels['norm'], labels['eps'])}"
        return " · ".join([*parts, what])


def _cell(parts: dict[str, Any]) -> Cell:
    return Cell(**parts)


def _norm(attack: Attack | None, mask: PixelMask | None) -> str:
    """Return what bounds an attack, as numbers of one are never mixed with those of another."""
    if attack is None:
        return "none"
    return attack.threat.norm if mask is None else f"{attack.threat.norm} {mask.text}"


def _shown(method: object) -> Description:
    """Return what a report calls a method: what it is, unless it says otherwise."""
    shown: Description | None = getattr(method, "shown", None)
    return shown or describe(method)


def _described(method: object | None) -> dict[str, Any] | None:
    return None if method is None else described(method)


def _traits(attack: Attack | None) -> dict[str, Any]:
    """Return what records are compared by, for an attack of a user's own: a reader may not have its module."""
    if attack is None or ":" in describe(attack).name or type(attack).__module__.startswith("robust_eval."):
        return {}
    return {"traits": {name: bool(getattr(attack, name)) for name in TRAITS}}


def _drawn(method: object | None) -> dict[str, Any]:
    """Return how the table of an analysis is drawn, if it is."""
    plot = method.plot if isinstance(method, Analysis) else None
    return {} if plot is None else {"plot": plot._asdict()}


def _identity(data: Data) -> dict[str, Any]:
    return {"fingerprint": data.examples.fingerprint, "n": len(data.examples)}
