"""Is one model better than another, or luck? A table of paired differences (:mod:`reports.paired`).

Limits: it is about these weights and fresh images, not about training again, so models trained with several seeds are
left out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from reports.bodies import Grid
from reports.paired import Difference, difference, holm
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import is_estimate
from robust_eval.results.worst_case import Attacked, radii, survivors, within
from robust_eval.threat import threat_text

__all__ = ["Differences", "differences", "sections"]


class Differences(NamedTuple):
    """Undefended models beside one of them."""

    data: str
    reference: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Difference | None, ...]], ...]
    """Each other model, with a difference for each column, its p corrected for their number; ``None`` where it was not
    attacked alike.
    """


class _Scores(NamedTuple):
    made_by: tuple[str, ...]
    """The attacks it is the worst of: only like is compared with like."""
    scores: pd.Series[float]


def sections(source: Source) -> Iterator[Section]:
    """Yield a table for each data set on which several models were measured."""
    for found in differences(source.entries, source.reference):
        rows = [
            (name, *(MISSING if cell is None else cell.text for cell in cells)) for name, cells in found.lines
        ]
        sizes = sorted({cell.n for _, cells in found.lines for cell in cells if cell is not None})
        n = f"{sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "") if sizes else "0"
        note = (
            f"In points of accuracy, undefended, beside {found.reference} on the same {n} images of {found.data}: "
            "95 % interval of the paired difference (Bonett and Price) and McNemar's exact p, corrected for the number "
            "of comparisons in this table (Holm). About these weights; training again adds a spread of its own."
        )
        yield Section("Differences between models", Grid(("model", *found.columns), tuple(rows), 1), note)


def differences(entries: Sequence[Entry], reference: str | None = None) -> tuple[Differences, ...]:
    """Compare clean accuracy and the worst case at each norm and radius with those of the reference, data by data.

    It is the first model where none is named, or where the one that is was not measured once on these images.
    """
    of_data: dict[tuple[str, object], dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if entry.labels["defense"] == "none" and entry.labels["family"] in ("clean", "attack"):
            of_data[entry.labels["data"], entry.labels["seed"]][entry.labels["model"]].append(entry)
    found = []
    for (data, _), models in of_data.items():
        once = {name: dict(_scores(own)) for name, own in models.items() if _trainings(own) == 1}
        if reference in once:
            once = {reference: once[reference], **once}
        if len(once) > 1:
            found.append(_beside_the_first(data, once))
    return tuple(table for table in found if table.columns)


def _beside_the_first(data: str, models: dict[str, dict[str, _Scores]]) -> Differences:
    (reference, first), *others = models.items()
    lines = [
        (
            name,
            {
                column: difference(own[column].scores, made.scores)
                for column, made in first.items()
                if column in own and own[column].made_by == made.made_by
            },
        )
        for name, own in others
    ]
    columns = tuple(column for column in first if any(column in cells for _, cells in lines))
    return Differences(
        data,
        reference,
        columns,
        _corrected([(name, [cells.get(column) for column in columns]) for name, cells in lines]),
    )


def _corrected(
    lines: Sequence[tuple[str, Sequence[Difference | None]]],
) -> tuple[tuple[str, tuple[Difference | None, ...]], ...]:
    """Let each p count as one of all in the table."""
    made = [cell for _, cells in lines for cell in cells if cell is not None]
    ps = iter(holm([cell.p for cell in made]))
    return tuple(
        (name, tuple(None if cell is None else cell._replace(p=next(ps)) for cell in cells))
        for name, cells in lines
    )


def _scores(entries: Sequence[Entry]) -> Iterator[tuple[str, _Scores]]:
    for entry in entries:
        if entry.labels["family"] == "clean":
            yield "clean", _Scores((), entry.record.rows.set_index("index")["score"].astype(float))
    by_norm: dict[str, list[Attacked]] = defaultdict(list)
    for entry in entries:
        if entry.labels["family"] == "attack":
            by_norm[entry.labels["norm"]].append(Attacked(entry.record, entry.labels, entry.checks))
    for norm, attacks in sorted(by_norm.items()):
        for eps in radii(attacks):
            usable = within(attacks, eps)
            if any(is_estimate(attack.record) for attack in usable):  # of some of the images
                continue
            made_by = tuple(sorted(attack.labels["perturbation"] for attack in usable))
            name = (
                f"worst case {threat_text(norm, eps)}"
                if len(usable) > 1
                else f"{made_by[0]} {threat_text(norm, eps)}"
            )
            yield name, _Scores(made_by, survivors(usable, eps))


def _trainings(entries: Sequence[Entry]) -> int:
    return len({json.dumps(entry.record.spec.get("model"), sort_keys=True, default=str) for entry in entries})
