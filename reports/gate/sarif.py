"""A gate as SARIF 2.1.0 (OASIS 2020), the form in which code hosts take findings: what does not pass, and why.

A result is a number that fails a rule or cannot be judged (error) or is warned of (warning), and each trust check
beside a judged number that failed (error) or could not be made (warning), with what to do as its help. A finding is
about a run, not a line of code: its place is the file given, by default the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from reports.gate.lines import where_text
from reports.gate.verdict import Gate, Judged, Outcome
from robust_eval.checks.card import card_of
from robust_eval.findings import Check

__all__ = ["sarif"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: dict[Outcome, str] = {"fail": "error", "unknown": "error", "warn": "warning"}


def sarif(gate: Gate, *, place: str) -> str:
    """Return the document; ``place`` is the path that findings are shown at."""
    rules: dict[str, dict[str, Any]] = {}
    results: dict[str, dict[str, Any]] = {}
    for judged in gate.judged:
        for identity, rule, level, text in (*_of_rule(judged), *_of_checks(judged)):
            known = rules.setdefault(identity, {"id": identity, **rule})
            fingerprint = sha256(f"{identity}\n{where_text(judged)}".encode()).hexdigest()
            results.setdefault(
                fingerprint,
                {
                    "ruleId": identity,
                    "ruleIndex": list(rules).index(identity),
                    "level": level,
                    "message": {"text": text or known["shortDescription"]["text"]},
                    "locations": [{"physicalLocation": {"artifactLocation": {"uri": quote(place)}}}],
                    "partialFingerprints": {"number/v1": fingerprint},
                },
            )
    driver = {"name": "robust-eval", "version": version("robust-eval"), "rules": [*rules.values()]}
    run = {"tool": {"driver": driver}, "results": [*results.values()], "columnKind": "unicodeCodePoints"}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


_Found = tuple[str, dict[str, Any], str, str]


def _of_rule(judged: Judged) -> Iterator[_Found]:
    if judged.outcome == "pass":
        return
    rule = judged.rule
    identity = f"gate/{sha256(f'{rule.kind} {rule.name} {rule.text}'.encode()).hexdigest()[:8]}"
    kind = "least value" if rule.kind == "min" else "largest drop"
    about = [f"A rule on a {kind}: {rule.text}.", rule.reason, f"Owner: {rule.owner}." if rule.owner else ""]
    text = ": ".join(part for part in (where_text(judged), "; ".join(judged.told)) if part)
    yield identity, _described(rule.name, " ".join(filter(None, about))), _LEVELS[judged.outcome], text


def _of_checks(judged: Judged) -> Iterator[_Found]:
    for check in judged.doubts:
        if check.verdict not in ("fail", "not_made"):
            continue
        says = card_of(check.name).says or f"The check {check.name}."
        level = "error" if check.verdict == "fail" else "warning"
        text = f"{where_text(judged)}: {check.name} {_said(check)}: {check.advice}"
        yield f"check/{check.name}", _described(check.name, f"{says} What to do: {check.advice}"), level, text


def _described(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "shortDescription": {"text": name}, "help": {"text": text}}


def _said(check: Check) -> str:
    return "failed" if check.verdict == "fail" else "could not be made"
