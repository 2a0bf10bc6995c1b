"""Names a reader can tell apart: whatever differs in its parameters differs in its name.

A record states a method's name and, elsewhere, its parameters. Two settings of one method under one name
would land in one cell of a table, so the parameters that differ are put behind the name: ``pgd (steps=10)``.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from robust_eval.findings import Check, Verdict, worst
from robust_eval.metrics.per_example import PER_EXAMPLE
from robust_eval.threat import short_text

__all__ = [
    "check_names",
    "differing",
    "metric_text",
    "params_text",
    "value_text",
    "verdict_in",
    "verdict_text",
    "with_params",
]

UNSET = "unset"
_TAILS: dict[Verdict, str] = {"warn": "", "not_made": " (not made)", "fail": "!"}
"""What follows the name of a check that was raised."""
_SPOKEN = {
    "accuracy_majority": "accuracy of the majority over draws",
    "accuracy_worst_of_k": "accuracy in the worst of the draws",
    "median_distance": "median distance",
    **{name: metric.words for name, metric in PER_EXAMPLE.items() if metric.mean},
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


def metric_text(metric: str) -> str:
    """Return what a metric is called in a heading."""
    return _SPOKEN.get(metric, metric.replace("_", " "))


def verdict_text(checks: Iterable[Check]) -> str:
    """Return ``ok``, or the names of the checks that warn, fail (``name!``) or could not be made (``name (not made)``)
    joined by ``;``, each with its worst verdict.
    """
    by_name: dict[str, list[Verdict]] = defaultdict(list)
    for check in checks:
        by_name[check.name].append(check.verdict)
    raised = {name: worst(verdicts) for name, verdicts in by_name.items()}
    return (
        ";".join(sorted(name + _TAILS[verdict] for name, verdict in raised.items() if verdict != "ok"))
        or "ok"
    )


def verdict_in(text: str) -> Verdict:
    """Return the worst verdict in what :func:`verdict_text` wrote."""
    return worst(_raised(name)[1] for name in _split(text))


def check_names(text: str) -> list[str]:
    """Return the names of the checks in what :func:`verdict_text` wrote."""
    return [_raised(name)[0] for name in _split(text)]


def _split(text: str) -> list[str]:
    return [] if text == "ok" else text.split(";")


def _raised(name: str) -> tuple[str, Verdict]:
    for verdict in ("fail", "not_made"):
        if name.endswith(_TAILS[verdict]):
            return name.removesuffix(_TAILS[verdict]), verdict
    return name, "warn"


def _float_text(value: float) -> str:
    pixels = Fraction(value * 255).limit_denominator(4) if math.isfinite(value) else Fraction(0)
    if (
        0 < pixels < 128
        and math.isclose(pixels / 255, value, rel_tol=1e-7)
        and short_text(value) != f"{value:.3g}"
    ):
        return f"{short_text(float(pixels))}/255"
    return short_text(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)
