"""Refuses rules that name what there is not: a mistake in a name must not read like something that was not measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.gate.named import ANY, CLEAN, MEAN, fits
from reports.gate.numbers import WORST, Run
from reports.gate.rules import Rule
from robust_eval.errors import ConfigError, near
from robust_eval.paths import resolved
from robust_eval.registry import names as registered

__all__ = ["require_known"]


def require_known(run: Run, rules: Sequence[Rule], baseline: Run | None) -> None:
    """Raise ``ConfigError`` for names that nothing in the runs or in the registry has."""
    problems = []
    if baseline is not None and resolved(baseline.folder) == resolved(run.folder):
        problems.append(
            "--baseline: expected another run, got the run itself; name the folder of an earlier one"
        )
    texts = [n.name for n in run.numbers] + ([n.name for n in baseline.numbers] if baseline else [])
    known = {*texts, CLEAN, MEAN, WORST, *registered("attack"), *registered("corruption")}
    known |= {name for number in run.numbers for name in number.bare[2:]}
    defenses = {n.line.defense for n in run.numbers} | {n.bare[1] for n in run.numbers} | {"none"}
    models = {n.line.model for n in run.numbers} | {n.bare[0] for n in run.numbers}
    for rule in rules:
        where = f"rule {rule.name!r}"
        named = rule.named
        if rule.kind == "max_drop" and baseline is None:
            problems.append(
                f"{where}: expected a baseline to drop from, got none; give one with --baseline RUN"
            )
        if ANY not in named.name and ":" not in named.name and named.name not in known:
            there = ", ".join(dict.fromkeys(texts))
            problems.append(
                f"{where}: unknown number {named.name!r}{near(named.name, known)}; measured: {there}"
            )
        elif named.at is None and not named.anywhere and named.name not in (CLEAN, MEAN):
            have = [n.text for n in run.numbers if fits(n.name, named.name) and "@" in n.text]
            if have and not run.meant(named):
                problems.append(
                    f"{where}: expected a radius or a severity, got none; write {' or '.join(have[:4])}"
                )
        for what, pattern, there_ in (("model", named.model, models), ("defense", named.defense, defenses)):
            if not any(fits(name, pattern) for name in there_):
                problems.append(
                    f"{where}: no {what} is called {pattern!r}{near(pattern, there_)}; there are: "
                    f"{', '.join(sorted(there_))}"
                )
        if rule.of_class is not None and ANY not in rule.of_class:
            _require_class(problems, where, rule, run)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _require_class(problems: list[str], where: str, rule: Rule, run: Run) -> None:
    names: dict[str, None] = {}
    for number in run.meant(rule.named):
        classes = number.classes() if number.made_of else None
        of_set = run.class_names.get(number.line.data, ())
        for k in [] if classes is None else np.unique(classes).tolist():
            names[str(k)] = None
            if 0 <= k < len(of_set):
                names[of_set[k]] = None
    if names and rule.of_class not in names:
        known = [name for name in names if not name.isdecimal()] or list(names)
        problems.append(
            f"{where}: no class is called {rule.of_class!r}{near(str(rule.of_class), known)}; there are: "
            f"{', '.join(known[:20])}"
        )
