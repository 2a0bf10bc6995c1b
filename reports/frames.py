"""Tables for charts, made of the comparison of accuracies."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from reports.tables import Column, Comparison, Line, Number, place_of_type

__all__ = ["accuracies", "by_defense", "sides", "subject"]

_SEEN = {"none": "the model itself", "transfer": "transfer", "adaptive": "adaptive", "any": "any of both"}
_COLUMNS = [
    "model", "defense", "series", "column", "type", "severity", "accuracy", "low", "high", "told",
]  # fmt: skip


def accuracies(table: Comparison) -> pd.DataFrame:
    """Return a row for each number of a table, in %: those that do not exist are missing, never zero.

    ``model`` with what tells its line apart, ``defense``, ``series`` (defense and access), ``column``, ``type`` and
    ``severity``, ``accuracy``, ``low``, ``high``, and ``told``, the words for the pointer.
    """
    rows = [
        _row(table, line, column, number)
        for line in table.lines
        for column in table.columns
        if (number := table.cells.get((line, column))) is not None and number.value is not None
    ]
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    # the order of the table, which that of the rows need not be: a line may lack its first numbers
    columns = list(dict.fromkeys(column.text for column in table.columns))
    types = sorted({column.name for column in table.columns}, key=place_of_type)
    return frame.assign(
        column=pd.Categorical(frame["column"], columns), type=pd.Categorical(frame["type"], types)
    )


def by_defense(table: Comparison) -> pd.DataFrame:
    """Return :func:`accuracies` of images without an attacker: ``series`` is the model with its defense."""
    frame = accuracies(table.without_access())
    names = [
        subject(model, "none" if defense == "no defense" else defense)
        for model, defense in zip(frame["model"], frame["defense"], strict=True)
    ]
    return frame.assign(series=names)


def sides(table: Comparison, clean: Column) -> pd.DataFrame:
    """Return the worst case of each model and defense beside its clean accuracy, in %, for each threat.

    Over both kinds of access where there are two. ``series`` is the model with its defense; ``clean``,
    ``clean_low`` and ``clean_high`` are added to the columns of :func:`accuracies`.
    """
    both = {line._replace(access="none") for line in table.lines if line.access == "any"}
    honest = [
        line for line in table.lines if line.access == "any" or line._replace(access="none") not in both
    ]
    table = replace(table, lines=tuple(honest))
    cases = table.only(tuple(column for column in table.columns if column.perturbation == "worst_case"))
    same = ["model", "series"]
    renamed = {"accuracy": "clean", "low": "clean_low", "high": "clean_high"}
    plain = accuracies(table.only((clean,)))[[*same, *renamed]].rename(columns=renamed)
    merged = accuracies(cases).merge(plain, on=same)
    names = [
        subject(model, "none" if defense == "no defense" else defense)
        for model, defense in zip(merged["model"], merged["defense"], strict=True)
    ]
    return merged.assign(series=names)


def subject(model: str, defense: str) -> str:
    """Return what a line of a chart is called."""
    return model if defense == "none" else f"{model} + {defense}"


def _row(table: Comparison, line: Line, column: Column, number: Number) -> dict[str, object]:
    assert number.value is not None
    defense = "no defense" if line.defense == "none" else line.defense
    seen = _SEEN.get(line.access, line.access)
    return {
        "model": _named(table, line),
        "defense": defense,
        "series": defense if line.access == "none" else f"{defense}, {seen}",
        "column": column.text,
        "type": column.name,
        "severity": column.severity,
        "accuracy": 100 * number.value,
        "low": 100 * (number.value if number.low is None else number.low),
        "high": 100 * (number.value if number.high is None else number.high),
        "told": _told(line, column, number),
    }


def _named(table: Comparison, line: Line) -> str:
    """Return the model, with data and seeds where they differ."""
    others = [name for name in table.heads if name not in ("model", "defense", "access")]
    extra = ", ".join(f"{name.replace('_', ' ')} {getattr(line, name)}" for name in others)
    return f"{line.model} ({extra})" if extra else line.model


def _told(line: Line, column: Column, number: Number) -> str:
    who = ", ".join(word for word in (line.model, line.defense, line.access) if word != "none")
    doubts = "" if number.checks == "ok" else f"; checks: {number.checks}"
    return f"{who}; {column.text}: {number.full} %, n = {number.n}{doubts}"
