"""A gate in Python, by the rules of ``robust-eval gate``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from reports.gate import (
    Gate,
    Rules,
    Run,
    judge,
    parse_rules,
    read_rules,
    require_confidence,
    require_strictness,
)
from reports.gate.lines import HEADS, lines
from reports.gate.summary import summary
from reports.gate.table import gate_text
from robust_eval.errors import ConfigError
from robust_eval.interface.results import Results, read

__all__ = ["GateResult", "as_run", "gate"]


class GateResult:
    """What a gate found: whether it passed, the exit code of the command, and a table."""

    def __init__(self, found: Gate) -> None:
        self.found = found
        """All of it, rule by rule (:class:`reports.gate.Gate`)."""

    @property
    def passed(self) -> bool:
        """Whether every rule passes."""
        return self.code == 0

    @property
    def code(self) -> int:
        """0 where every rule passes, 1 where one fails, 3 where none fails and one cannot be judged."""
        return self.found.code

    def table(self) -> pd.DataFrame:
        """Return a row for each number under each rule: outcome, rule, model, number, what was measured and wanted."""
        return pd.DataFrame(
            [line.words for line in lines(self.found)], columns=["outcome", *HEADS[1:]], dtype="str"
        )

    def summary(self) -> str:
        """Return it as Markdown."""
        return summary(self.found)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return gate_text(self.found, width=120)

    __repr__ = __str__


def gate(
    results: Results | str | os.PathLike[str],
    *,
    rules: str | os.PathLike[str] | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
    baseline: Results | str | os.PathLike[str] | None = None,
    confidence: float | None = None,
    checks: str | None = None,
) -> GateResult:
    """Judge results by rules, and return whether they pass.

        robust_eval.gate(results, baseline="runs/last", rules=["pgd@8/255 >= 0.45", "max-drop clean 1%"])

    ``rules`` are texts, tables with ``min`` or ``max_drop`` and what a file may say beside them, or the path of a TOML
    file. With a ``confidence`` least values are judged by their lower bound; drops are at 0.95 by default. ``checks``
    is must (a number that a trust check doubts cannot be judged) or warn.

    Raises ``ConfigError`` for rules that cannot be read or name what there is not, with a line for each.
    """
    given: Rules
    if isinstance(rules, os.PathLike) or (isinstance(rules, str) and rules.endswith(".toml")):
        given = read_rules(Path(rules))
    else:
        given = Rules(
            parse_rules([rules] if isinstance(rules, str | Mapping) else cast("Sequence[Any]", rules))
        )
    if not given.rules:
        raise ConfigError("rules: expected at least one, got none; give one such as 'clean >= 0.9'")
    strictness = require_strictness(checks, where="checks")
    found = judge(
        as_run(results),
        given.rules,
        baseline=None if baseline is None else as_run(baseline),
        confidence=given.confidence
        if confidence is None
        else require_confidence(confidence, where="confidence"),
        checks=strictness or given.checks or "must",
    )
    return GateResult(found)


def as_run(results: Results | str | os.PathLike[str]) -> Run:
    """Return a run as rules name its numbers, of results or of a run folder."""
    known = results if isinstance(results, Results) else read(results)
    return Run(known.folder, known._loaded)
