"""Judges a run by rules: least values, and drops from a baseline that noise does not explain."""

from reports.gate.judge import judge
from reports.gate.numbers import Run
from reports.gate.rules import Rule, Rules, parse_rules, read_rules, require_confidence, require_strictness
from reports.gate.verdict import Gate, Judged, Ruled

__all__ = [
    "Gate",
    "Judged",
    "Rule",
    "Ruled",
    "Rules",
    "Run",
    "judge",
    "parse_rules",
    "read_rules",
    "require_confidence",
    "require_strictness",
]
