"""A record read as an attack: of which kind it is, within which radii, and which images it broke."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import pandas as pd

from robust_eval.errors import UnknownNameError
from robust_eval.findings import reason
from robust_eval.methods import Attack
from robust_eval.metrics.accuracy import score_within
from robust_eval.registry import find
from robust_eval.results.cell import TRAITS
from robust_eval.results.record import Record

__all__ = [
    "EXAMINED",
    "Attacked",
    "broken",
    "fixed",
    "identity",
    "kind",
    "kind_of",
    "made_elsewhere",
    "method_of",
    "near",
    "of_library",
    "one_step_method",
    "params_of",
    "radii_of",
    "same_radius",
    "weak",
    "why_unknown",
]

FEW_QUERIES = 1000
"""Forward passes below which a black box is a look, not an evaluation: AutoAttack gives Square 5,000."""
_TOLD: dict[str, type[Attack]] = {}
COMPARABLE = 2.0
"""Radii that differ by this factor at most say something about each other."""
_SINGLE_STEP = ("fgsm", "fastgradient")
"""What other libraries call attacks of one step."""
_BUDGETS = ("queries", "n_queries", "max_queries", "steps", "max_iterations")
"""What black boxes, ours and others, call the number of their questions."""
EXAMINED = ("model", "data", "defense", "pool")
Kind = Literal["white", "baseline", "unknown", "other"]
"""An attack with gradients; one without, or for another model; one whose library or module is not there; one that
compares with none of these, as it looks for one class or turns the image."""


class Attacked(NamedTuple):
    """A record of an attack with a radius, as it is compared."""

    key: str
    name: str
    access: str
    norm: str
    eps: float
    setting: str
    """Name and parameters but the radius."""
    single_step: bool
    """Whether the attack goes one step only."""
    broken: pd.Series[bool]

    @classmethod
    def of(cls, record: Record) -> Attacked:
        """Return a record of an attack with a radius as it is compared."""
        labels = record.labels
        described = record.spec.get("perturbation")
        version = described.get("version") if isinstance(described, dict) else None
        rest = {name: value for name, value in params_of(record).items() if name != "eps"}
        draws = record.spec.get("gradient_draws")
        setting = json.dumps([labels["perturbation"], labels["norm"], rest, version, draws], sort_keys=True)
        eps = float(labels["eps"])
        return cls(
            record.key,
            str(labels["perturbation"]),
            labels["access"],
            labels["norm"],
            eps,
            setting,
            single_step(record),
            broken(record, eps),
        )

    def at(self, other: Attacked) -> bool:
        """Whether both stay in the same ball."""
        return self.norm == other.norm and same_radius(self.eps, other.eps)


def fixed(record: Record) -> bool:
    """Whether an attack has a radius, which angles are not, and does not look for one class."""
    radius = record.labels["eps"] is not None and record.labels["norm"] != "spatial"
    return radius and params_of(record).get("target") is None


def kind(record: Record) -> Kind:
    """Return what an attack may see, as far as it can be compared."""
    if params_of(record).get("target") is not None or record.labels["norm"] == "spatial":
        return "other"
    return kind_of(str(record.labels["perturbation"]))


def kind_of(name: str) -> Kind:
    """Return what the attack of this name may see."""
    if made_elsewhere(name):
        return "baseline"
    method = method_of(name)
    if method is None:
        return "unknown"
    return "baseline" if method.baseline or not method.gradients else "white"


def method_of(name: str) -> type[Attack] | None:
    """Return the attack of this name, or what a record told of it; ``None`` where its library is not installed, or
    nobody imported its module and no record tells.
    """
    return _looked_up(name)[0] or _TOLD.get(name)


def introduce(records: Iterable[Record]) -> None:
    """Remember what records tell of attacks of a user's own, whose modules a report does not import."""
    for record in records:
        traits = record.labels.get("traits")
        if isinstance(traits, dict) and all(isinstance(traits.get(name), bool) for name in TRAITS):
            _TOLD[str(record.labels["perturbation"])] = type("Told", (Attack,), traits)


def why_unknown(name: str) -> str:
    """Return one line on why the attack of this name is not known."""
    return f"the attack {name} is not known here ({_looked_up(name)[1]})"


@lru_cache(maxsize=256)
def _looked_up(name: str) -> tuple[type[Attack] | None, str]:
    try:
        return find("attack", name), ""
    except UnknownNameError:  # which would list all names
        return None, "the module that registers it was not imported"
    except Exception as error:
        return None, reason(error)


def of_library(name: str) -> bool:
    """Whether an attack is another library's, or for another model: what is made on demand has a prefix."""
    return ":" in name


def single_step(record: Record) -> bool:
    """Whether an attack goes one step only: by its number of steps, by its method where it states none."""
    steps = params_of(record).get("steps")
    if isinstance(steps, int):
        return steps <= 1 and record.labels["eps"] is not None
    return one_step_method(record)


def one_step_method(record: Record) -> bool:
    """Whether an attack is a method of one step, not one of many that was given a single one.

    Other libraries do not say it of theirs, nor can an attack that is not known: those are judged by name.
    """
    name = str(record.labels["perturbation"])
    method = method_of(name)
    if method is not None and not of_library(name):
        return method.single_step
    return params_of(record).get("steps", 1) == 1 and any(word in name.lower() for word in _SINGLE_STEP)


def weak(record: Record) -> bool:
    """Whether an attack that leaves an image standing says little about it; one that nobody knows is not accused."""
    name, params = str(record.labels["perturbation"]), params_of(record)
    if made_elsewhere(name) or single_step(record):
        return True
    asked = [params[word] for word in _BUDGETS if isinstance(params.get(word), int)]
    return kind_of(name) == "baseline" and max(asked, default=0) < FEW_QUERIES


def made_elsewhere(name: str) -> bool:
    """Whether an attack makes its images without asking the model that is attacked."""
    method = method_of(name)
    return name.startswith("transfer:") if method is None else not method.asks_model


def params_of(record: Record) -> dict[str, Any]:
    """Return the parameters of a record's perturbation."""
    return dict(record.labels.get("params") or {})


def radii_of(record: Record) -> list[float]:
    """Return the radii an attack was scored at."""
    if record.labels["eps"] is not None:
        return [float(record.labels["eps"])]
    return [m.eps for m in record.summary if m.metric == "accuracy" and m.eps is not None]


def broken(record: Record, eps: float) -> pd.Series[bool]:
    """Return which images are misclassified, within ``eps`` for an attack that looks for the smallest perturbation."""
    rows = record.rows.set_index("index")
    score = rows["score"] if record.labels["eps"] is not None else score_within(rows, eps)
    return score < 0.5


def same_radius(one: float, other: float) -> bool:
    """Whether two radii are equal up to rounding."""
    # the same radius may come from two computations that differ in the last bit
    return f"{one:.6g}" == f"{other:.6g}"


def near(eps: float, other: float | None) -> bool:
    """Whether an attack at ``other`` says something about one at ``eps``; the smallest perturbation always does."""
    if other is None:
        return True
    return other <= eps * COMPARABLE * (1 + 1e-6) and eps <= other * COMPARABLE * (1 + 1e-6)


def identity(spec: dict[str, Any], parts: Sequence[str]) -> str:
    """Return these parts of a spec as one text, equal where they are."""
    return json.dumps([spec.get(part) for part in parts], sort_keys=True, default=str)
