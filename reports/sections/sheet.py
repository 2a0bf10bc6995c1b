"""What the corruptions look like: the first image under each type and severity, one contact sheet for each data set.

Every record of a corruption, and that of the clean images, keeps a small PNG of its first image in its provenance.
What comes from a record is not trusted: a picture is shown if it is base64, a PNG of at most 96 pixels a side, and can
be decoded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from reports.bodies import Picture, Sheet, Sheets
from reports.pictures import picture
from reports.section import Section, Source
from reports.sections.deformations import seen
from reports.tables import place_of_type
from robust_eval.results.entry import Entry

__all__ = ["SAMPLE", "sections", "sheets"]

SAMPLE = "sample"
"""Under what name provenance has the picture."""
CLEAN = "clean"
NOTE = "The first image that was measured, as it was given to the model, scaled down to 96 pixels where it is larger."


def sections(source: Source) -> Iterator[Section]:
    """Yield the pictures, if a record of a corruption has one."""
    found = sheets(source.entries)
    if found:
        yield Section("What the corruptions look like", Sheets(found), NOTE)


def sheets(entries: Sequence[Entry]) -> tuple[Sheet, ...]:
    """Return the sheets of the data sets that have pictures: of each type and severity that of the first model."""
    found: dict[str, dict[tuple[str, int | None], Picture]] = defaultdict(dict)
    for entry in entries:
        labels = entry.labels
        name, severity = str(labels["perturbation"]), labels["severity"]
        if labels["family"] == "clean":
            name = CLEAN
        elif labels["family"] != "corruption":
            continue
        if (name, severity) in found[labels["data"]]:
            continue
        text = entry.record.provenance.get(SAMPLE)
        spoken = seen(str(entry.record.labels.get("perturbation")), entry.params) or name
        told = spoken if severity is None else f"{name} s{severity}"
        shown = picture(text, told) if isinstance(text, str) else None
        if shown is not None:
            found[labels["data"]][name, severity] = shown
    return tuple(
        _sheet(data, pictures) for data, pictures in sorted(found.items()) if set(pictures) - {(CLEAN, None)}
    )


def _sheet(data: str, pictures: dict[tuple[str, int | None], Picture]) -> Sheet:
    severities = tuple(sorted({severity for _, severity in pictures if severity is not None}))
    names = sorted({name for name, severity in pictures if severity is not None}, key=place_of_type)
    return Sheet(
        data,
        severities,
        tuple((name, tuple(pictures.get((name, severity)) for severity in severities)) for name in names),
        tuple(pictures[key] for key in sorted(pictures, key=lambda key: key[0] != CLEAN) if key[1] is None),
    )
