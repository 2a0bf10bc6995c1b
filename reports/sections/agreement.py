"""Do other libraries' versions of our attacks break the same images? Computed from rows, like every comparison.

An attack of ours is paired with each counterpart of Foolbox, torchattacks or pyautoattack that was run at the same
parameters on the same model, images, seed and access. *Broken* is an image that was attacked and is misclassified; for
attacks that look for the smallest perturbation, within a radius. What only theirs breaks, ours has missed.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports.bodies import Listing
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.attacks.peers.resolve import LIBRARIES, counterparts
from robust_eval.metrics.accuracy import median_distance, score_within
from robust_eval.results.entry import Entry
from robust_eval.threat import threat_text

__all__ = ["EXPLAINED", "HEADS", "NAMES", "Agreement", "agreements", "sections"]

HEADS = (
    "model",
    "attack",
    "peer",
    "strength",
    "n",
    "both",
    "only ours",
    "only theirs",
    "neither",
    "median distance",
)
NAMES = 4
"""How many columns are names."""
EXPLAINED = (
    "Images broken by our attack and by the library's at the same parameters: an image that only theirs breaks is one "
    "that ours missed. Median distances are ours / theirs."
)
_SAME = ("model", "defense", "access", "data", "norm", "seed")


class Agreement(NamedTuple):
    """How many images an attack of ours and its counterpart break."""

    model: str
    attack: str
    peer: str
    strength: str
    n: int
    """Images that were attacked."""
    both: int
    ours: int
    """Broken by ours only."""
    theirs: int
    """Broken by theirs only."""
    distances: tuple[float | None, float | None] | None
    """Median distance of ours and of theirs, for attacks that look for the smallest."""

    @property
    def neither(self) -> int:
        """Images that both left standing."""
        return self.n - self.both - self.ours - self.theirs

    def texts(self) -> list[str]:
        """Return the columns of :data:`HEADS`."""
        counts = (self.n, self.both, self.ours, self.theirs, self.neither)
        pair = MISSING if self.distances is None else " / ".join(map(_length, self.distances))
        return [self.model, self.attack, self.peer, self.strength, *map(str, counts), pair]


def sections(source: Source) -> Iterator[Section]:
    """Yield one line for each pair and radius, if counterparts were run."""
    rows = tuple(tuple(line.texts()) for line in agreements(source.entries))
    if rows:
        yield Section("Agreement with other libraries", Listing(HEADS, rows, NAMES), EXPLAINED)


def agreements(entries: Sequence[Entry]) -> list[Agreement]:
    """Return one line for each pair and radius, in the order of the records."""
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.labels["family"] == "attack":
            spec = entry.record.spec
            same = tuple(entry.labels[name] for name in _SAME)
            groups[(*same, *(json.dumps(spec.get(part)) for part in ("model", "data", "defense")))].append(
                entry
            )
    return [
        line for group in groups.values() for ours, theirs in _pairs(group) for line in _lines(ours, theirs)
    ]


def _pairs(group: list[Entry]) -> Iterator[tuple[Entry, Entry]]:
    peers = [entry for entry in group if _name(entry).partition(":")[0] in LIBRARIES]
    for ours in group:
        for name, params in counterparts(_name(ours), ours.params) if peers else ():
            yield from ((ours, peer) for peer in peers if _name(peer) == name and _agree(params, peer.params))


def _name(entry: Entry) -> str:
    return str(entry.record.labels.get("perturbation"))


def _agree(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether all of the wanted parameters are those given; numbers up to rounding."""

    def equal(a: Any, b: Any) -> bool:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))
        return math.isclose(a, b, rel_tol=1e-9) if numbers else a == b

    return all(name in given and equal(value, given[name]) for name, value in wanted.items())


def _lines(ours: Entry, theirs: Entry) -> Iterator[Agreement]:
    eps = ours.labels["eps"]
    radii = [eps] if eps is not None else sorted(_radii(ours) & _radii(theirs)) or [math.inf]
    medians = (median_distance(ours.record.rows).value, median_distance(theirs.record.rows).value)
    for radius in radii:
        first, second = (_broken(entry, None if eps is not None else radius) for entry in (ours, theirs))
        first, second = first.align(second, join="inner")
        yield Agreement(
            model=ours.labels["model"],
            attack=ours.labels["perturbation"],
            peer=theirs.labels["perturbation"],
            strength=threat_text(ours.labels["norm"], None if math.isinf(radius) else radius),
            n=len(first),
            both=int((first & second).sum()),
            ours=int((first & ~second).sum()),
            theirs=int((~first & second).sum()),
            distances=None if eps is not None else medians,
        )


def _radii(entry: Entry) -> set[float]:
    return {m.eps for m in entry.record.summary if m.metric == "accuracy" and m.eps is not None}


def _broken(entry: Entry, radius: float | None) -> pd.Series[bool]:
    """Return which of the attacked images are misclassified, on most draws if the model is stochastic."""
    rows = entry.record.rows.set_index("index")
    score = rows["score"] if radius is None else score_within(rows, radius)
    return (score < 0.5)[rows["attacked"]]


def _length(value: float | None) -> str:
    return "not found" if value is None else f"{value:.3g}"
