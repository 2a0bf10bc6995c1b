"""Deformations in tables: named by what one sees, beside one another in the order of their strength."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from reports import charts, frames
from reports.bodies import Chart, Numbers
from reports.charts.deformations import deformations
from reports.charts.foremost import only_best
from reports.charts.look import LINES
from reports.section import Section, Source
from reports.tables import CLEAN, MARKS_TOLD, Comparison, unit_of
from robust_eval.results.entry import Entry

__all__ = ["apart", "divided", "sections", "seen"]

_SEEN: dict[str, tuple[str, Callable[[float], str]]] = {
    "rotation": ("degrees", lambda value: f"rotation ±{value:g}°"),
    "shear": ("degrees", lambda value: f"shear ±{value:g}°"),
    "scale": ("content", lambda value: f"content at {100 * value:g} %"),
}
"""The deformations by what one sees; papers call scales by what the camera does."""


AT_LENGTH = (
    "Accuracy in percent, the 95 % interval below it, on images that were turned, slanted or scaled about their "
    "centre, named by what one sees; what was outside of the image is black."
)


def sections(source: Source) -> Iterator[Section]:
    """Yield a table and its drawing, if an image was deformed."""
    severe, table = divided(source)
    if not table.empty:
        # the marks have been told at an earlier table, if there is one
        first = severe.empty and source.table.part("clean", "attack").empty
        yield Section(
            "Deformations",
            Numbers(table, "deformations"),
            unit_of(table.metric),
            f"{AT_LENGTH} {MARKS_TOLD}" if first else AT_LENGTH,
            "Accuracy on deformed images in percent, with 95 % intervals; named by what one sees.",
        )
    if (chart := _drawing(table)) is not None:
        yield Section("", chart)


def _drawing(table: Comparison) -> Chart | None:
    bars = frames.by_defense(table)
    caption = "Accuracy on deformed images, with 95 % intervals"
    if (several := bars["series"].nunique()) > LINES:
        caption += f": the {LINES} of {several} with the highest mean"
    drawn = only_best(bars, "series", LINES)
    wide = drawn["series"].nunique() * drawn["column"].nunique() > 12
    return charts.figure("deformations", caption, deformations, drawn, wide=wide)


def divided(source: Source) -> tuple[Comparison, Comparison]:
    """Return the accuracies on corrupted and those on deformed images, each beside those on clean ones."""
    nothing = source.table.only(())
    if not source.table.corrupted:
        return nothing, nothing
    table = source.table.part("clean", "corruption").without_access()
    severe, deformed = apart(table, source.entries)
    return severe if severe.corrupted else nothing, deformed


def seen(name: str, params: Mapping[str, object]) -> str | None:
    """Return a deformation by what one sees, such as ``rotation ±20°``; ``None`` for what is not a deformation."""
    field, words = _SEEN.get(name, ("", str))
    value = params.get(field)
    if not isinstance(value, int | float):
        return None
    how = params.get("interpolation")
    return words(float(value)) + ("" if how in (None, "nearest") else f" ({how})")


def apart(table: Comparison, entries: Sequence[Entry]) -> tuple[Comparison, Comparison]:
    """Return a table without its deformations, and one of clean images and deformations, named by what one sees."""
    names: dict[str, str] = {}
    order: dict[str, tuple[str, float]] = {}
    for entry in entries:
        words = seen(_name(entry), entry.params) if entry.labels["family"] == "corruption" else None
        if words is not None:
            label = str(entry.labels["perturbation"])
            names[label] = words
            order[label] = (_name(entry), float(entry.params[_SEEN[_name(entry)][0]]))
    alike = {words for words, count in Counter(names.values()).items() if count > 1}
    names = {label: label if words in alike else words for label, words in names.items()}
    own = [c for c in table.columns if c.family == "corruption" and c.perturbation in names]
    own.sort(key=lambda column: (order[column.perturbation], column.perturbation))
    renamed = {column: column._replace(perturbation=names[column.perturbation]) for column in own}
    cells = {(line, renamed.get(column, column)): n for (line, column), n in table.cells.items()}
    clean = [CLEAN] if own and CLEAN in table.columns else []
    deformed = replace(table, cells=cells).only(tuple(renamed.values()))
    return (
        table.only(tuple(column for column in table.columns if column not in own)),
        replace(deformed, columns=(*clean, *deformed.columns)),
    )


def _name(entry: Entry) -> str:
    return str(entry.record.labels.get("perturbation"))
