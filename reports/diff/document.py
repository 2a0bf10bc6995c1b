"""A diff as a document: data, a table for spreadsheets, Markdown, and a page that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from reports.diff.changes import Diff, Flip
from reports.diff.contents import contents
from reports.diff.images import pictures_of
from reports.formats.html import page
from reports.formats.markdown import markdown
from reports.formats.spreadsheet import csv
from reports.gate.numbers import Run

__all__ = ["as_csv", "as_html", "as_json", "as_markdown"]


def as_json(diff: Diff) -> str:
    """Return all of it as JSON, schema 1; shares, not percent, and hashes whole."""
    columns = list(diff.table().columns)
    numbers = [
        {
            **dict(zip(columns, change.row, strict=True)),
            "to_wrong": list(map(_flip, change.to_wrong)),
            "to_right": list(map(_flip, change.to_right)),
            "data": change.data,
            "checks": list(change.checks),
        }
        for change in diff.changes
    ]
    told = {
        "schema": 1,
        "before": diff.before,
        "after": diff.after,
        "sentence": diff.sentence,
        "numbers": numbers,
        "same": diff.same,
        "made": [made._asdict() for made in diff.made],
        "not_compared": [{"why": item.why, "model": item.who, "number": item.what} for item in diff.unpaired],
        "remarks": list(diff.remarks),
    }
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(diff: Diff) -> str:
    """Return a line for each number, in which no text is a formula to a spreadsheet."""
    return csv(diff.table())


def as_markdown(diff: Diff) -> str:
    """Return it in GitHub's Markdown."""
    return markdown(contents(diff), _title(diff))


def as_html(diff: Diff, runs: Sequence[Run]) -> str:
    """Return the page, with pictures of the images that flipped."""
    pictures, why_none = pictures_of(diff, runs)
    return page(contents(diff, pictures, why_none), (), {}, title=_title(diff), unfolded=True)


def _flip(flip: Flip) -> dict[str, object]:
    return asdict(flip)


def _title(diff: Diff) -> str:
    return f"From {diff.before} to {diff.after}"
