"""The score of each image behind a number of a table: what paired comparisons are made of.

A number over several trainings has none: its images were answered by several networks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from reports.tables import CLEAN, MEAN, Column, Line
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import is_estimate
from robust_eval.results.worst_case import Attacked, survivors, within

__all__ = ["Scored", "Scores", "met_as_much"]


class Scores(NamedTuple):
    """How often a model was right on each image, by the index of the image."""

    made_by: frozenset[str]
    """The perturbations it is the worst or the mean of; empty for clean images."""
    scores: pd.Series[float]


def met_as_much(one: Scores, other: Scores) -> bool:
    """Whether a line met every perturbation that the other did: only then can it be said to be better."""
    return one.made_by >= other.made_by


class Scored:
    """The scores of the lines of a comparison."""

    def __init__(self, entries: Sequence[Entry], corruptions: Sequence[Column]) -> None:
        """``corruptions`` are those that the mean of a line is over."""
        self._of: dict[Line, list[Entry]] = defaultdict(list)
        for entry in entries:
            labels = entry.labels
            place = (
                labels["model"],
                labels["defense"],
                "",
                labels["data"],
                labels["seed"],
                labels["train_seed"],
            )
            self._of[Line(*place)].append(entry)
        self._corruptions = frozenset((column.perturbation, column.severity) for column in corruptions)
        self._known: dict[tuple[Line, Column], Scores | None] = {}

    def of(self, line: Line, column: Column) -> Scores | None:
        """Return the scores behind a number; ``None`` where it has none, as an estimate or one of several trainings."""
        if (line, column) not in self._known:
            self._known[line, column] = self._made(line, column)
        return self._known[line, column]

    def _made(self, line: Line, column: Column) -> Scores | None:
        own = self._of.get(line._replace(access=""), [])
        if column == CLEAN:
            clean = [entry for entry in own if entry.labels["family"] == "clean"]
            return Scores(frozenset(), _plain(clean[0])) if len(clean) == 1 else None
        if column == MEAN:
            return self._mean(own)
        if column.family != "attack" or column.eps is None:
            return None
        attacks = [
            Attacked(entry.record, entry.labels, entry.checks)
            for entry in own
            if entry.labels["family"] == "attack"
            and entry.labels["norm"] == column.norm
            and line.access in (entry.labels["access"], "any")
            and column.perturbation in (entry.labels["perturbation"], "worst_case")
        ]
        usable = within(attacks, column.eps)
        # a part of the images, of which those that are hard to tell are more, stands for nobody's difference
        if not usable or any(is_estimate(attack.record) for attack in usable):
            return None
        made_by = frozenset(attack.labels["perturbation"] for attack in usable)
        return Scores(made_by, survivors(usable, column.eps))

    def _mean(self, own: Sequence[Entry]) -> Scores | None:
        met = {
            f"{entry.labels['perturbation']} {entry.labels['severity']}": _plain(entry)
            for entry in own
            if (entry.labels["perturbation"], entry.labels["severity"]) in self._corruptions
            and entry.labels["family"] == "corruption"
        }
        if not met:
            return None
        return Scores(frozenset(met), pd.concat(list(met.values()), axis=1, join="inner").mean(axis=1))


def _plain(entry: Entry) -> pd.Series[float]:
    return entry.record.rows.set_index("index")["score"].astype(float)
