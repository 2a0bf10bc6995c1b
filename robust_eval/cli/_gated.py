"""What a gate needs at the command line: rules before anything is measured, the verdict after, files in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from robust_eval.errors import ConfigError, near
from robust_eval.paths import shown

if TYPE_CHECKING:
    from reports.gate import Gate, Rules
    from reports.gate.rules import Strictness

__all__ = ["judged", "require_baseline", "rules_of", "write_outputs"]


def rules_of(
    file: Path | None,
    *,
    least: Sequence[str] = (),
    drops: Sequence[str] = (),
    confidence: float | None = None,
    checks: str | None = None,
) -> Rules:
    """Return the rules of a file and of options, which overrule what the file says of how they are judged."""
    from reports.gate import Rules, parse_rules, read_rules, require_confidence

    given = read_rules(file) if file is not None else Rules(())
    every = (*given.rules, *parse_rules(least=least, drops=drops))
    if not every:
        raise ConfigError(
            "expected a rule, got none; give --min 'clean >= 0.9', --max-drop 'pgd@8/255 0.01' or --rules FILE"
        )
    if checks not in (None, "must", "warn"):
        raise ConfigError(
            f"--checks: expected must or warn, got {checks!r}{near(str(checks), ('must', 'warn'))}"
        )
    level = given.confidence if confidence is None else require_confidence(confidence)
    return Rules(every, level, cast("Strictness | None", checks or given.checks))


def require_baseline(baseline: Path, wanted: Rules) -> None:
    """Raise where drops have nothing to be measured from, before anything is measured."""
    from robust_eval.results.load import load

    del wanted
    load([baseline], rows=False)


def judged(run: Path, wanted: Rules, baseline: Path | None) -> Gate:
    """Judge a run folder."""
    from reports.gate import Run, judge

    return judge(
        Run(run),
        wanted.rules,
        baseline=None if baseline is None else Run(baseline),
        confidence=wanted.confidence,
        checks=wanted.checks or "must",
    )


def write_outputs(
    found: Gate,
    run: Path,
    *,
    junit: Path | None = None,
    sarif: Path | None = None,
    summary: Path | None = None,
) -> None:
    """Write the files that were asked for, each whole or not at all."""
    from reports.gate.junit import junit as as_junit
    from reports.gate.sarif import sarif as as_sarif
    from reports.gate.summary import summary as as_summary
    from robust_eval.files import write_text

    texts = (
        ("--junit", junit, lambda: as_junit(found)),
        ("--sarif", sarif, lambda: as_sarif(found, place=run.as_posix())),
        ("--summary", summary, lambda: as_summary(found)),
    )
    for option, path, made in texts:
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{option} {shown(path)}: expected a file to write, got a folder; add a name")
        write_text(path, made())
