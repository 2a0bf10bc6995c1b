"""What is said of a run before it starts: its attacks, what it costs, and its cells by names that tell them apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robust_eval.cli._console import say, verbose
from robust_eval.errors import THEIRS

if TYPE_CHECKING:
    from rich.console import Console

    from robust_eval.config.experiment import Experiment
    from robust_eval.evaluation.workbench import Workbench
    from robust_eval.results.cell import Cell
    from robust_eval.run.cost import Estimate, Line

__all__ = ["say_budget", "say_cost", "say_estimates", "say_left_out", "told_apart"]

LONG = 30
"""Seconds from which a run's cost is told before it starts."""


def told_apart(cells: Sequence[Cell]) -> list[str]:
    """Return the names of cells; those that would read alike show the parameters that they differ in."""
    from robust_eval.results.names import differing, with_params

    alike: dict[str, list[dict[str, Any]]] = defaultdict(list)
    settings = [_settings(cell) for cell in cells]
    for cell, setting in zip(cells, settings, strict=True):
        alike[str(cell)].append(setting)
    shown = {name: differing(group) for name, group in alike.items()}
    return [
        with_params(
            str(cell), {name: setting[name] for name in shown[str(cell)] if name in setting}, shown[str(cell)]
        )
        for cell, setting in zip(cells, settings, strict=True)
    ]


def _settings(cell: Cell) -> dict[str, Any]:
    """Return all that may differ between cells of one name."""
    labels = cell.labels
    defense = {f"{labels['defense']}.{name}": value for name, value in labels["defense_params"].items()}
    other = {
        name: labels[name] for name in ("arch", "regularizer", "train_seed", "seed", "data") if name in labels
    }
    return {**other, **defense, **labels["params"], "model": labels["model_key"][:6]}


def say_budget(console: Console, budget: str, experiment: Experiment) -> None:
    """Print each attack of the run with its radii and parameters."""
    from robust_eval.config.budgets import settings

    rows = settings(experiment.attacks)
    names, threats = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    say(console, f"attacks, by the budget {budget}:")
    for row in rows:
        say(console, f"  {row.name:{names}}  {row.threat:{threats}}  {row.params}")


def say_left_out(console: Console, experiment: Experiment) -> None:
    """Print in a line which attacks are not carried over to defended models, why, and how to have it measured."""
    from robust_eval.registry import describe

    names = dict.fromkeys(describe(plan.attack).name for plan in experiment.attacks if plan.left_out)
    defenses = dict.fromkeys(describe(defense).name for defense in experiment.defenses)
    if names and defenses:
        say(
            console,
            f"left out: {', '.join(names)} by transfer to {', '.join(defenses)}: what just fools the undefended model "
            f'is no measure of a defense; set access = "transfer" in the attack\'s table, or --set '
            f"{next(iter(names))}.access=transfer, to measure it all the same",
        )


def say_estimates(console: Console, experiment: Experiment) -> None:
    """Print in a line which attacks are estimated, and which are made on all images and why."""
    from robust_eval.config.estimable import is_estimable, on_all_images
    from robust_eval.registry import describe

    if (half_width := experiment.frame.estimate) is None:
        return
    defended = bool(experiment.defenses)
    few = dict.fromkeys(describe(plan.attack).name for plan in experiment.attacks if is_estimable(plan))
    whole = dict.fromkeys(
        f"{describe(plan.attack).name} ({why})"
        for plan in experiment.attacks
        if (why := on_all_images(plan, defended=defended))
    )
    say(
        console,
        f"estimated to within {100 * half_width:g} points: {', '.join(few)}, on as few images as that takes"
        + (f"; on all images: {', '.join(whole)}" if whole else ""),
    )


def say_cost(console: Console, missing: list[Cell], bench: Workbench) -> None:
    """Print what a long run costs, attack by attack; why it is not known, where a model cannot be asked.

    Networks are not compiled for it, which takes longer than an estimate may.
    """
    from robust_eval.run.cost import estimate

    try:
        expected = estimate(missing, bench)
    except THEIRS as error:
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        say(console, f"cost not estimated: {reason}")
        return
    if expected.seconds < LONG and not verbose() and not any(line.untimed for line in expected.lines):
        return
    whole = "is attacked and " if any(cell.estimate is not None for cell in missing) else ""
    say(
        console,
        f"cost at most, if every image {whole}resists (measured in {expected.spent:.1f} s; without training):",
    )
    names = max(len(line.name) for line in expected.lines)
    for line in expected.lines:
        say(console, f"  {line.name:{names}}  {_cost(line)}")
    unknown = "" if all(line.passes is not None for line in expected.lines) else " and what is not known"
    unknown += " and what is not timed" if any(line.untimed for line in expected.lines) else ""
    likely = "" if expected.likely is None else f", likely {_duration(expected.likely)}"
    say(console, f"  in all about {_duration(expected.seconds)}{likely}{unknown}")
    for text in _looks(expected):
        say(console, f"  {text}")


def _cost(line: Line) -> str:
    cells = "1 cell" if line.cells == 1 else f"{line.cells} cells"
    if line.passes is None:
        return f"{cells:>9}  not known"
    gradients, forwards = f"{line.passes.backwards:,}", f"{line.passes.forwards:,}"
    counts = f"{cells:>9}  {gradients:>15} gradients {forwards:>15} forward passes"
    if line.untimed == line.cells:
        return f"{counts}  not timed"
    likely = "" if line.likely is None else f", likely {_duration(line.likely)}"
    untimed = f", {line.untimed} of the cells not timed" if line.untimed else ""
    return f"{counts}  about {_duration(line.seconds)}{likely}{untimed}"


def _looks(expected: Estimate) -> list[str]:
    """Return what is behind the likely times."""
    return [
        f"likely by {look.model} under five steps of PGD, {look.threat}: {look.standing} of {look.right} withstand, "
        f"of {look.images} images"
        for look in expected.looks
        if look.threat
    ]


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s at most"
