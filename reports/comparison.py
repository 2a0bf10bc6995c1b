"""Builds the comparison of one metric from the long table of results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.tables import MEAN, Column, Comparison, Line, Number
from robust_eval.results.failed import error_told
from robust_eval.threat import bare_norm, length_text

__all__ = ["comparison", "mean_of", "metrics", "threats"]

_NORMS = ("linf", "l2", "l1", "l0")


def comparison(results: pd.DataFrame, *, metric: str = "accuracy") -> Comparison:
    """Return one line for each model, defense and access, from the long table of :func:`robust_eval.results.load`.

    Clean and corrupted images know no attacker: their numbers stand in every access line of their model. The
    access ``any`` is the worst over transfer and adaptive attacks together.
    """
    # the same radius may come from two computations that differ in the last bit
    radii = {f"{eps:.6g}": eps for eps in sorted(set(results["eps"].dropna()))}
    cells: dict[tuple[Line, Column], Number] = {}
    for row in results[results["metric"] == metric].to_dict("records"):
        cells[_line(row), _column(row, radii)] = _number(row)
    each = _spread(cells)
    cells = _over_seeds(each)
    columns = sorted({column for _, column in cells}, key=_column_order)
    lines = list(dict.fromkeys(line for line, _ in cells))
    if metric.startswith("accuracy"):
        corruptions = Comparison(metric, tuple(lines), tuple(columns), cells).in_mean()
        spreads = _spreads_of_means(corruptions, each)
        for line in lines:
            if (mean := mean_of(line, corruptions, cells)) is not None:
                cells[line, MEAN] = mean._replace(spread=spreads.get(line))
        columns += [MEAN] if any(column == MEAN for _, column in cells) else []
    return Comparison(metric, tuple(lines), tuple(columns), cells)


def _spreads_of_means(
    corruptions: Sequence[Column], each: Mapping[tuple[Line, Column], Number]
) -> dict[Line, float]:
    """Return the standard deviation of the mean over these columns, for lines whose every training has them all."""
    means: dict[Line, list[float | None]] = {}
    for line in dict.fromkeys(line for line, _ in each):
        found = mean_of(line, corruptions, each)
        if found is None:  # nothing was asked of it
            continue
        whole = found.value is not None and found.of == (len(corruptions), len(corruptions))
        means.setdefault(line._replace(train_seed=None), []).append(found.value if whole else None)
    return {
        line: statistics.stdev(values)
        for line, found in means.items()
        if len(values := [value for value in found if value is not None]) == len(found) > 1
    }


def metrics(results: pd.DataFrame) -> list[str]:
    """Return the names of the metrics that are there, ``accuracy`` first."""
    return sorted(set(results["metric"]), key=lambda name: (name != "accuracy", name))


def _line(row: dict[Any, Any]) -> Line:
    words = (row["model"], row["defense"], row["access"], row["data"])
    return Line(*words, _whole(row["seed"]), _whole(row["train_seed"]))


def _column(row: dict[Any, Any], radii: Mapping[str, float]) -> Column:
    eps = _real(row["eps"])
    eps = None if eps is None else radii[f"{eps:.6g}"]
    return Column(row["family"], row["perturbation"], row["norm"], eps, _whole(row["severity"]))


def _number(row: dict[Any, Any]) -> Number:
    value, low, high = (_real(row[name]) for name in ("value", "ci_low", "ci_high"))
    failed = error_told(row["checks"])
    checks = row["checks"] if failed is None else "ok"
    return Number(
        row["metric"], value, low, high, _whole(row["n"]), checks, row["key"], failed=failed
    )._replace(estimated_for=_whole(row.get("estimated_for")))


def _real(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _spread(cells: dict[tuple[Line, Column], Number]) -> dict[tuple[Line, Column], Number]:
    """Give the numbers without an attacker to every line of their model and defense."""
    attacked: dict[Line, list[Line]] = {}
    for line, column in cells:
        if column.family == "attack":
            lines = attacked.setdefault(line._replace(access="none"), [])
            lines += [line] if line not in lines else []
    return {
        (place, column): number
        for (line, column), number in cells.items()
        for place in ([line] if column.family == "attack" else attacked.get(line, [line]))
    }


def _over_seeds(cells: dict[tuple[Line, Column], Number]) -> dict[tuple[Line, Column], Number]:
    """Make one line of the lines that differ in the seed of their training alone.

    A number over fewer seeds than the lines beside it have together says so.
    """
    seeds: dict[Line, set[int | None]] = {}
    for line, _ in cells:
        seeds.setdefault(line._replace(train_seed=None), set()).add(line.train_seed)
    together: dict[tuple[str, int | None], set[int | None]] = {}
    for line, own in seeds.items():
        if len(own) > 1:
            together.setdefault((line.data, line.seed), set()).update(own)
    found: dict[tuple[Line, Column], list[Number]] = {}
    for (line, column), number in cells.items():
        bare = line._replace(train_seed=None)
        found.setdefault((bare if len(seeds[bare]) > 1 else line, column), []).append(number)
    return {
        (line, column): _averaged(
            numbers,
            1 if seeds.get(line) == {None} else len(together.get((line.data, line.seed), ())) or 1,
        )
        for (line, column), numbers in found.items()
    }


def _averaged(numbers: Sequence[Number], asked: int) -> Number:
    """Return mean and sample standard deviation; the numbers of the trainings are in ``results.csv``."""
    made = [number for number in numbers if number.failed is None]
    if len(numbers) == 1 or not made:
        return numbers[0]._replace(asked=asked)
    if len(made) == 1:
        return made[0]._replace(asked=asked)
    values = [number.value for number in made if number.value is not None]
    whole = len(values) == len(made)
    return Number(
        metric=made[0].metric,
        value=statistics.fmean(values) if whole else None,
        low=None,
        high=None,
        n=min((number.n for number in made if number.n is not None), default=None),
        estimated_for=next((number.estimated_for for number in made if number.estimated_for), None),
        checks=_raised(made),
        key="none",
        spread=statistics.stdev(values) if whole else None,
        trainings=len(made),
        asked=asked,
    )


def _raised(numbers: Sequence[Number]) -> str:
    raised = {check for number in numbers for check in number.checks.split(";") if check != "ok"}
    return ";".join(sorted(raised)) or "ok"


def mean_of(
    line: Line, corruptions: Sequence[Column], cells: Mapping[tuple[Line, Column], Number]
) -> Number | None:
    """Return the mean of a line over these columns, without an interval; ``None`` where there is nothing in them.

    What failed is left out, and counted as such; a mean of which all failed has failed.
    """
    found = [cells[line, column] for column in corruptions if (line, column) in cells]
    made = [number for number in found if number.value is not None]
    if not made:
        return next((number._replace(key="none") for number in found if number.failed is not None), None)
    return Number(
        metric=made[0].metric,
        value=statistics.fmean(number.value for number in made if number.value is not None),
        low=None,
        high=None,
        n=made[0].n,
        checks=_raised(made),
        key="none",
        of=(len(made), len(corruptions)),
        trainings=min(number.trainings for number in made),
        asked=max(number.asked for number in made),
    )


def _column_order(column: Column) -> tuple[Any, ...]:
    family = {"clean": 0, "attack": 1}.get(column.family, 2)
    norm = _place(column.norm)
    eps = -1.0 if column.eps is None else column.eps
    severity = -1 if column.severity is None else column.severity
    if family == 1:
        return (
            family,
            norm,
            column.norm,
            eps,
            column.perturbation == "worst_case",
            column.perturbation,
            severity,
        )
    return (family, 0, column.perturbation, severity, False, "", eps)


def _place(norm: str) -> int:
    """Return where a norm stands among the others, with a mask or without."""
    bare = bare_norm(norm)
    return _NORMS.index(bare) if bare in _NORMS else len(_NORMS)


def threats(results: pd.DataFrame) -> list[str]:
    """Return each norm with the radii it was attacked at, such as ``linf 2/255, 8/255``."""
    attacks = results[results["family"] == "attack"]
    found = []
    for norm in sorted(set(attacks["norm"]), key=lambda norm: (_place(norm), norm)):
        radii = {f"{eps:.6g}": eps for eps in attacks.loc[attacks["norm"] == norm, "eps"].dropna()}
        texts = list(dict.fromkeys(length_text(eps, norm) for eps in sorted(radii.values())))
        bare, space, mask = norm.partition(" ")
        lengths = ", ".join(texts) or "(smallest perturbation)"
        found.append(f"{bare} {lengths}{space}{mask}")
    return found
