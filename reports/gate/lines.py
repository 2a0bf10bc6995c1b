"""What every format of a gate says: the lines of its table, and below it why each that does not pass does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reports.gate.verdict import OUTCOMES, SPOKEN, Gate, Judged, Outcome, Ruled
from reports.tables import MISSING, counted

__all__ = ["HEADS", "Line", "Reason", "lines", "note", "reasons", "where_text"]

HEADS = ("", "rule", "model", "number", "measured", "wanted", "by how much")
MOST = 12
"""Numbers of one rule that a table shows; those that do not pass always are."""


class Line(NamedTuple):
    """One line of the table, as words."""

    outcome: Outcome
    words: tuple[str, ...]
    short: str = ""
    """What was measured, without the interval of a change, which the reasons tell."""
    named: bool = False
    """Whether the rule has a name of its own."""


class Reason(NamedTuple):
    """Why a number does not simply pass."""

    outcome: Outcome
    rule: str
    """Its name, where it has one."""
    where: str
    told: tuple[str, ...]
    about: str
    """What the rule's author said: its reason and its owner."""

    @property
    def place(self) -> str:
        """The rule and the number."""
        return ": ".join(part for part in (self.rule, self.where) if part)


def lines(gate: Gate) -> Iterator[Line]:
    """Yield the lines of the table, rule by rule, the worst outcome first."""
    for ruled in sorted(gate.ruled, key=lambda each: -OUTCOMES.index(each.outcome)):
        yield from _of_rule(ruled)


def reasons(gate: Gate) -> Iterator[Reason]:
    """Yield why numbers fail, cannot be judged or are warned of, the worst first, and what else is told of others."""
    for outcome in reversed(OUTCOMES):
        for each in gate.judged:
            if each.outcome == outcome and each.told:
                about = [each.rule.reason, f"owner: {each.rule.owner}" if each.rule.owner else ""]
                where = where_text(each)
                # a rule without a name is called by its text, which the number says again
                named = each.rule.name != each.rule.text or not where
                yield Reason(
                    outcome,
                    each.rule.name if named else "",
                    where,
                    each.told,
                    "; ".join(part for part in about if part) if outcome != "pass" else "",
                )


def where_text(judged: Judged) -> str:
    """Return whose number it is, such as ``resnet: pgd@linf:8/255, class cat``."""
    of_class = f", class {judged.of_class}" if judged.of_class else ""
    return f"{judged.who}: {judged.what}{of_class}" if judged.who else ""


def note(gate: Gate) -> str:
    """Return what a reader has to know of the numbers."""
    level = f"{100 * gate.confidence:g} %"
    parts = [f"Accuracy in % with {level} intervals"]
    if gate.by_bound and any(each.rule.kind == "min" for each in gate.judged):
        parts.append("least values are judged by the lower bound")
    if gate.drops:
        among = f", {counted(gate.drops, 'drop')} together (Holm)" if gate.drops > 1 else ""
        parts.append(f"drops are paired, on the same images as {gate.baseline}{among}")
    return "; ".join(parts) + "."


def _of_rule(ruled: Ruled) -> Iterator[Line]:
    judged = sorted(ruled.judged, key=lambda each: -OUTCOMES.index(each.outcome))
    shown = [each for i, each in enumerate(judged) if i < MOST or each.outcome not in ("pass", "warn")]
    if len(judged) - len(shown) == 1:
        shown = judged
    for each in shown:
        named = each.rule.name != each.rule.text
        yield Line(each.outcome, _words(each), _short(each), named)
    if more := len(judged) - len(shown):
        yield Line("pass", (SPOKEN["pass"], ruled.rule.name, f"{more} more", *[""] * 4))


def _words(each: Judged) -> tuple[str, ...]:
    rule = each.rule
    number = each.what + (f", class {each.of_class}" if each.of_class else "")
    wanted = f"{'at least' if rule.kind == 'min' else 'drop at most'} {100 * rule.value:.4g}"
    margin = MISSING if each.margin is None else f"{100 * each.margin:+.1f}"
    return (
        SPOKEN[each.outcome],
        rule.name,
        each.who or MISSING,
        number or MISSING,
        _measured(each),
        wanted,
        margin,
    )


def _short(each: Judged) -> str:
    if each.value is None or each.before is None:
        return _measured(each).partition(", n =")[0]
    return f"{100 * each.before:.1f} → {100 * each.value:.1f}"


def _measured(each: Judged) -> str:
    if each.value is None:
        return MISSING
    value = f"{100 * each.value:.1f}"
    if each.before is None:
        low, high = (f"{100 * bound:.1f}" for bound in (each.low or 0.0, each.high or 0.0))
        return f"{value} ({low}–{high}), n = {each.n:,}"
    change = "same records"
    if each.drop is not None:
        points = (f"{100 * bound:+.1f}" for bound in (-each.drop.value, -each.drop.high, -each.drop.low))
        change = "{} ({} to {})".format(*points)
    return f"{100 * each.before:.1f} → {value}: {change}, n = {each.n:,}"
