"""A gate as data: the verdict, and every number under every rule; shares, not percent."""

from __future__ import annotations

import json
from typing import Any

from reports.gate.verdict import Gate, Judged, Ruled

__all__ = ["gate_json"]


def gate_json(gate: Gate) -> str:
    """Return it as JSON, schema 1."""
    told = {
        "schema": 1,
        "run": gate.run,
        "baseline": gate.baseline,
        "outcome": gate.outcome,
        "code": gate.code,
        "sentence": gate.sentence,
        "confidence": gate.confidence,
        "by_bound": gate.by_bound,
        "rules": list(map(_rule, gate.ruled)),
        "remarks": list(gate.remarks),
    }
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _rule(ruled: Ruled) -> dict[str, Any]:
    rule = ruled.rule
    return {
        "name": rule.name,
        "kind": rule.kind,
        "text": rule.text,
        "value": rule.value,
        "reason": rule.reason,
        "owner": rule.owner,
        "outcome": ruled.outcome,
        "numbers": list(map(_number, ruled.judged)),
    }


def _number(judged: Judged) -> dict[str, Any]:
    found = judged.drop
    return {
        "outcome": judged.outcome,
        "model": judged.who,
        "number": judged.what,
        "class": judged.of_class,
        "value": judged.value,
        "low": judged.low,
        "high": judged.high,
        "n": judged.n,
        "before": judged.before,
        "drop": None if found is None else {"value": found.value, "low": found.low, "high": found.high},
        "margin": judged.margin,
        "told": list(judged.told),
        "checks": [{"name": c.name, "verdict": c.verdict, "advice": c.advice} for c in judged.doubts],
    }
