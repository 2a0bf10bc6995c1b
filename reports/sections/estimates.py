"""Estimates: numbers under attack that were made from some of the images, how they were made, stratum by stratum."""

from __future__ import annotations

import json
from collections.abc import Iterator

from reports.bodies import Listing
from reports.section import Section, Source
from reports.tables import MISSING, Column, counted
from robust_eval.metrics.estimation import Estimated, Sampled, estimated
from robust_eval.printable import printable
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import STRATUM, is_estimate, sampled
from robust_eval.results.worst_case import APART, WORST

__all__ = ["estimated_sentence", "sections"]

HEADS = (
    "model", "defense", "attack", "how", "attacked", "of", "accuracy", "these images", "images like them",
)  # fmt: skip
STRATA_HEADS = ("model", "defense", "attack", "stratum", "images", "attacked", "withstand", "share")
NOTE = (
    "Marked est. in the tables: so many of all images were attacked, drawn at random within each stratum; those that "
    "are wrong without an attack needed none. The interval of these images says where the accuracy would lie if all "
    "of them were attacked; that of images like them, which the tables show, is wider by what the choice of the images "
    "themselves does, as that of any measured share is. Both at 95 %, in percent. Estimates are not compared image by "
    "image: not in the differences between models, of runs and of a gate, nor in curves."
)
STRATA_NOTE = (
    "Strata are parts of the order by margin over the length of its gradient, the nearest to an error first; images "
    "are attacked where they tell most."
)
_NAMED = 3


def sections(source: Source) -> Iterator[Section]:
    """Yield the estimates and their strata, if there are any."""
    found = [entry for entry in source.entries if is_estimate(entry.record) and STRATUM in entry.record.rows]
    if not found:
        return
    rows = tuple(_row(entry, sampled(entry.record.rows)) for entry in found)
    yield Section("Estimates", Listing(HEADS, rows, 4), NOTE)
    strata = tuple(row for entry in found for row in _strata(entry, sampled(entry.record.rows)))
    if strata:
        yield Section("Strata of the estimates", Listing(STRATA_HEADS, strata, 3), STRATA_NOTE, folded=True)


def estimated_sentence(source: Source) -> Iterator[str]:
    """Yield one sentence that names the numbers which are estimates."""
    if source.results.empty:
        return
    found = source.results[source.results["estimated_for"].notna() & (source.results["metric"] == "accuracy")]
    alone = found[found["perturbation"] != WORST]
    if not len(alone):
        return
    named = [
        f"{Column(row['family'], row['perturbation'], row['norm'], row['eps']).text} on {row['model']}"
        f"{'' if row['defense'] == 'none' else ' behind ' + row['defense']} from {row['n']:,} attacked of "
        f"{row['estimated_for']:,} images"
        for row in alone.head(_NAMED).to_dict("records")
    ]
    more = f"; and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
    yield f"Estimated (est.): {'; '.join(named)}{more}."
    worst = source.results[source.results["perturbation"] == WORST]
    if any(json.loads(params).get(APART) for params in worst["params"]):
        yield (
            "A worst case is undefined where the estimates of its attacks have no sample in common: estimate them in "
            "one run, or attack all images."
        )


def _row(entry: Entry, known: Sampled) -> tuple[str, ...]:
    found = estimated(known)
    return (
        *_names(entry),
        _how(entry, known),
        f"{known.attacked:,}",
        f"{known.images:,}",
        f"{100 * found.value:.1f}",
        *_intervals(found),
    )


def _intervals(found: Estimated) -> tuple[str, ...]:
    return tuple(
        f"{100 * interval.low:.1f}–{100 * interval.high:.1f}" for interval in (found.here, found.elsewhere)
    )


def _how(entry: Entry, known: Sampled) -> str:
    """Return how images were drawn; why without strata, where the record says so."""
    if len(known.sizes) > 1:
        return counted(len(known.sizes), "stratum", "strata")
    told = entry.record.provenance.get("estimate")
    why = told.get("plain_because") if isinstance(told, dict) else None
    return f"without strata: {printable(why)}" if isinstance(why, str) else "without strata"


def _strata(entry: Entry, known: Sampled) -> Iterator[tuple[str, ...]]:
    if known.sure:
        yield (*_names(entry), "wrong without", f"{known.sure:,}", "0", f"{known.sure_score:g}", MISSING)
    if len(known.sizes) == 1:
        return
    for h, (size, tried, score) in enumerate(zip(known.sizes, known.tried, known.scores, strict=True), 1):
        share = f"{100 * score / tried:.1f}" if tried else MISSING
        yield (*_names(entry), str(h), f"{size:,}", f"{tried:,}", f"{score:g}", share)


def _names(entry: Entry) -> tuple[str, str, str]:
    labels = entry.labels
    attack = Column("attack", labels["perturbation"], labels["norm"], labels["eps"]).text
    return str(labels["model"]), str(labels["defense"]), attack
