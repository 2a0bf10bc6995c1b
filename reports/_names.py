"""Names a reader can tell apart: whatever differs in its parameters differs in its name.

A record states a method's name and, elsewhere, its parameters. Two settings of one method under one name
would land in one cell of a table, so the parameters that differ are put behind the name: ``pgd (steps=10)``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from robust_eval.record import Check

__all__ = [
    "differing",
    "length_text",
    "metric_text",
    "params_text",
    "threat_text",
    "value_text",
    "verdict_text",
    "with_params",
]

UNSET = "unset"
_SPOKEN = {
    "accuracy_majority": "accuracy of the majority over draws",
    "accuracy_worst_of_k": "accuracy in the worst of the draws",
    "median_distance": "median distance",
    "nll": "NLL",
    "brier": "Brier score",
    "top5_accuracy": "top-5 accuracy",
    "calibration_error_equal_mass": "ECE, equal mass",
    "calibration_error": "expected calibration error (ECE)",
    "confidence_gap": "mean confidence - accuracy",
}


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sorted names of the parameters that do not have one value in all settings."""
    names = sorted({name for setting in settings for name in setting})
    return [name for name in names if len({_canonical(s.get(name, UNSET)) for s in settings}) > 1]


def with_params(name: str, setting: Mapping[str, Any], shown: Sequence[str]) -> str:
    """Return ``name (a=1, b=2)`` for the parameters to show, or the bare name if there are none."""
    if not shown:
        return name
    return f"{name} ({', '.join(f'{key}={value_text(setting.get(key, UNSET))}' for key in shown)})"


def params_text(setting: Mapping[str, Any]) -> str:
    """Return all parameters as ``a=1, b=2``, or ``none``."""
    return ", ".join(f"{key}={value_text(value)}" for key, value in setting.items()) or "none"


def value_text(value: Any) -> str:
    """Return a parameter's value for people: pixel fractions as ``8/255``, containers as JSON."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return _float_text(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def length_text(eps: float, norm: str) -> str:
    """Return a radius as it is spoken of: linf in 255ths, an angle in degrees, others plain. Six digits if three would
    lie.
    """
    if norm == "spatial":
        return f"±{_short(eps)}°"
    return f"{_short(eps * 255)}/255" if norm == "linf" else _short(eps)


def threat_text(norm: str, eps: float | None) -> str:
    """Return ``linf 8/255``, or ``l2 minimal`` for an attack that looks for the smallest perturbation."""
    return f"{norm} minimal" if eps is None else f"{norm} {length_text(eps, norm)}"


def metric_text(metric: str) -> str:
    """Return what a metric is called in a heading."""
    return _SPOKEN.get(metric, metric.replace("_", " "))


def verdict_text(checks: Iterable[Check]) -> str:
    """Return ``ok``, or the names of the checks that warn or fail (``name!``) joined by ``;``."""
    raised = {
        check.name + ("!" if check.verdict == "fail" else "") for check in checks if check.verdict != "ok"
    }
    return ";".join(sorted(name for name in raised if f"{name}!" not in raised)) or "ok"


def _short(value: float) -> str:
    text = f"{value:.3g}"
    return text if math.isclose(float(text), value, rel_tol=1e-6) else f"{value:.6g}"


def _float_text(value: float) -> str:
    pixels = Fraction(value * 255).limit_denominator(4) if math.isfinite(value) else Fraction(0)
    if (
        0 < pixels < 128
        and math.isclose(pixels / 255, value, rel_tol=1e-7)
        and _short(value) != f"{value:.3g}"
    ):
        return f"{_short(float(pixels))}/255"
    return _short(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)
