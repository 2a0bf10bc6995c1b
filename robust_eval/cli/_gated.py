"""What a gate needs at the command line: rules before anything is measured, the verdict after, files in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robust_eval.errors import ConfigError
from robust_eval.paths import resolved, shown, what_is

if TYPE_CHECKING:
    from reports.gate import Gate, Rules

__all__ = ["Gated", "gated", "judged", "require_outputs", "rules_of", "write_outputs"]


class Gated(NamedTuple):
    """The gate that a run is judged by once it is measured."""

    wanted: Rules
    baseline: Path | None = None

    def require_baseline(self, out: Path) -> None:
        """Raise where drops have nothing to be measured from: it is told before anything is measured."""
        from robust_eval.results.load import load

        if self.baseline is None:
            if named := [rule.name for rule in self.wanted.rules if rule.kind == "max_drop"]:
                raise ConfigError(f"rule {named[0]!r}: expected a baseline to drop from; give --baseline RUN")
            return
        if resolved(self.baseline) == resolved(out):
            raise ConfigError(
                f"--baseline {shown(self.baseline)}: expected another run than the one that is measured; give --out a "
                "folder of its own"
            )
        load([self.baseline], rows=False)

    def code(self, run: Path, *, piped: bool) -> int:
        """Judge the run, show the table, and return the exit code."""
        from reports.gate.table import gate_table
        from robust_eval.cli._console import open_console, open_log, say
        from robust_eval.results.store import Store

        if next(Store(run).records(rows=False), None) is None:
            say(open_log(always=True), "gate: cannot judge: nothing was measured", style="bold yellow")
            return NOTHING
        found = judged(run, self.wanted, self.baseline)
        console = open_log(always=True) if piped else open_console()
        console.print(gate_table(found, width=console.width))
        return found.code


NOTHING = 3
"""The exit code where there is nothing to judge."""


def gated(rules: Path | None, baseline: Path | None) -> Gated | None:
    """Return what ``--gate`` and ``--baseline`` ask for."""
    if rules is None:
        if baseline is not None:
            raise ConfigError("--baseline: expected rules to judge by as well, got none; add --gate FILE")
        return None
    return Gated(rules_of(rules), baseline)


def rules_of(
    file: Path | None,
    *,
    least: Sequence[str] = (),
    drops: Sequence[str] = (),
    confidence: float | None = None,
    checks: str | None = None,
) -> Rules:
    """Return the rules of a file and of options, which overrule what the file says of how they are judged."""
    from reports.gate import Rules, parse_rules, read_rules, require_confidence, require_strictness

    given = read_rules(file) if file is not None else Rules(())
    every = (*given.rules, *parse_rules(least=least, drops=drops))
    if not every:
        raise ConfigError(
            "expected a rule, got none; give --min 'clean >= 0.9', --max-drop 'pgd@8/255 0.01' or --rules FILE"
        )
    strictness = require_strictness(checks)
    level = given.confidence if confidence is None else require_confidence(confidence)
    return Rules(every, level, strictness or given.checks)


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

    texts: dict[Path | None, Callable[[], str]] = {
        junit: lambda: as_junit(found),
        sarif: lambda: as_sarif(found, place=run.as_posix()),
        summary: lambda: as_summary(found),
    }
    for path, made in texts.items():
        if path is not None:
            write_text(path, made())


def require_outputs(**files: Path | None) -> None:
    """Raise ``ConfigError`` for a file that cannot be written, before anything is judged."""
    for name, path in files.items():
        if path is not None and (found := what_is(path)) not in ("a file", "none"):
            raise ConfigError(
                f"--{name} {shown(path)}: expected a file to write, got {found}; give another name"
            )
    given = [resolved(path) for path in files.values() if path is not None]
    if len(set(given)) < len(given):
        raise ConfigError(
            f"--{', --'.join(files)}: expected a file for each, got one for two; give other names"
        )
