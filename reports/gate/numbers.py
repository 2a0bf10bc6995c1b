"""The numbers of a run that a rule can be about: clean, under each attack, worst cases, under corruptions, their mean.

Each knows the records behind it, so that it can be compared image by image, and class by class. A number that was to be
measured and is not there, as its cell failed or the run was stopped, stands among them with the reason. Of a single
attack at a radius its own number is the worst case, as in the report's first table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from reports.gate.named import CLEAN, MEAN, Named, fits, strength_text
from reports.tables import Column, Comparison, Line
from robust_eval.checks.card import card_of
from robust_eval.findings import Check
from robust_eval.results.concerns import examines
from robust_eval.results.doubts import worst_of_each
from robust_eval.results.entry import Entry
from robust_eval.results.failed import LOST, LOST_TOLD, error_told
from robust_eval.results.load import Loaded, load
from robust_eval.results.names import check_names, verdict_in, verdict_text
from robust_eval.results.planned import unmeasured
from robust_eval.results.worst_case import Attacked, survivors, within

__all__ = ["NOT_EXAMINED", "Number", "Run"]

WORST = "worst_case"
NOT_EXAMINED = "examination"
"""The name of a check that stands for all that an examination makes."""
_STOPPED = (
    "planned and not measured, the run is partial; run the same command again, which goes on from there"
)
_UNSEEN = "the model was not examined as attacks see it; measure with --checks quick"
_FAMILIES = (CLEAN, "attack", "corruption")


@dataclass(frozen=True, eq=False)
class Number:
    """A number, and what it is made of."""

    line: Line
    family: str
    name: str
    """The perturbation, as the tables of its run call it."""
    norm: str = "none"
    eps: float | None = None
    severity: int | None = None
    value: float | None = None
    n: int = 0
    missing: str = ""
    """Why it is not there, and what to do; empty where it is."""
    made_of: tuple[Entry, ...] = ()
    doubts: tuple[Check, ...] = ()
    """The checks beside it that did not pass."""
    estimated_for: int | None = None
    """Of an estimate, how many images it is for: :meth:`scores` are of some of them, and stand for nobody."""
    interval: tuple[float, float] | None = None
    """Of an estimate, at 95 %."""

    @property
    def text(self) -> str:
        """How a rule names it, such as ``pgd@linf:8/255``."""
        strength = strength_text(self.family, self.norm, self.eps, self.severity)
        return f"{self.name}@{strength}" if strength else self.name

    @property
    def bare(self) -> tuple[str, str, str]:
        """Model, defense and perturbation without the parameters that tell them apart in the tables of a run."""
        if not self.made_of:
            return self.line.model, self.line.defense, self.name
        labels = self.made_of[0].record.labels
        own = self.name if self.name in (CLEAN, MEAN, WORST) else str(labels.get("perturbation"))
        return str(labels.get("model")), str(labels.get("defense") or "none"), own

    def is_meant(self, named: Named) -> bool:
        """Whether a rule names it."""
        names = zip((self.line.model, self.line.defense, self.name), self.bare, strict=True)
        patterns = (named.model, named.defense, named.name)
        # of an attack that looks for the smallest perturbation, and was not made, no radius is known
        unknown = (
            bool(self.missing) and self.eps is None and self.family == "attack" and named.norm == self.norm
        )
        return all(
            any(fits(name, pattern) for name in both) for both, pattern in zip(names, patterns, strict=True)
        ) and (unknown or named.is_at(self.family, self.norm, self.eps, self.severity))

    def scores(self) -> pd.Series[float]:
        """Return how often each image is right, by its index."""
        if self.family == "attack":
            attacks = [Attacked(entry.record, entry.labels, entry.checks) for entry in self.made_of]
            assert self.eps is not None
            return survivors(attacks, self.eps)
        every = [entry.record.rows.set_index("index")["score"].astype(float) for entry in self.made_of]
        return every[0] if len(every) == 1 else pd.concat(every, axis=1, join="inner").mean(axis=1)

    def classes(self) -> pd.Series[Any] | None:
        """Return the class of each image, by its index; ``None`` where the records do not tell."""
        rows = self.made_of[0].record.rows
        return rows.set_index("index")["label"] if "label" in rows else None


class Run:
    """What was measured in a run, as rules name it."""

    def __init__(self, folder: Path, loaded: Loaded | None = None) -> None:
        """``loaded`` is what is in the folder, where somebody has read it."""
        self.folder = folder
        self.loaded = load([folder]) if loaded is None else loaded
        self.name = self.loaded.runs[0] if self.loaded.runs else folder.name
        self.unmeasured = unmeasured(folder)
        self.numbers = tuple(self._numbers())
        self.class_names = self._class_names()
        lines = [number.line for number in self.numbers]
        self._told = {
            name
            for name in ("data", "seed", "train_seed")
            if len({getattr(line, name) for line in lines}) > 1
        }

    @property
    def models(self) -> list[str]:
        """The names of its models."""
        return list(dict.fromkeys(number.line.model for number in self.numbers))

    def who(self, number: Number) -> str:
        """Return whose number it is, such as ``resnet + mixup_inference (adaptive)``."""
        line = number.line
        name = line.model if line.defense == "none" else f"{line.model} + {line.defense}"
        more = [line.access] if line.access not in ("none", "any") and line.defense != "none" else []
        more += [
            f"{word.replace('train_seed', 'training').replace('_', ' ')} {getattr(line, word)}"
            for word in ("data", "seed", "train_seed")
            if word in self._told and getattr(line, word) is not None
        ]
        return name + (f" ({', '.join(more)})" if more else "")

    def meant(self, named: Named) -> list[Number]:
        """Return the numbers that a rule names, each once; of a defended model the worst case over all attackers."""
        found = [number for number in self.numbers if number.is_meant(named)]
        attacks = {(n.line, n.norm, n.eps, _keys(n)) for n in found if n.name != WORST}
        # of a single attack, the worst case is its own number
        found = [n for n in found if n.name != WORST or (n.line, n.norm, n.eps, _keys(n)) not in attacks]
        whole = {
            (number.line._replace(access=""), number.text)
            for number in found
            if number.name == WORST and number.line.access == "any"
        }
        return [
            number
            for number in found
            if number.line.access == "any" or (number.line._replace(access=""), number.text) not in whole
        ]

    def _numbers(self) -> Iterator[Number]:
        found = [*self._measured(), *self._stopped()]
        yield from found
        worst = {(n.line, n.norm, n.eps) for n in found if n.name == WORST}
        alone: dict[tuple[Any, ...], list[Number]] = defaultdict(list)
        for number in found:
            if number.family == "attack" and number.name != WORST and number.eps is not None:
                alone[number.line, number.norm, number.eps].append(number)
        for place, numbers in alone.items():
            if place not in worst and len(numbers) == 1:
                yield self._unstopped(replace(numbers[0], name=WORST))
        lines: dict[Line, list[Number]] = defaultdict(list)
        for number in found:
            if number.family == "corruption":
                lines[number.line].append(number)
        for line, numbers in lines.items():
            if (mean := _mean(line, numbers)) is not None:
                yield mean

    def _measured(self) -> Iterator[Number]:
        by_key = {entry.record.key: entry for entry in self.loaded.entries}
        rows = self.loaded.results
        rows = rows[(rows["metric"] == "accuracy") & rows["family"].isin(_FAMILIES)]
        for item in rows.astype(object).where(rows.notna(), None).to_dict("records"):
            row = {str(name): value for name, value in item.items()}
            if row["family"] == CLEAN and row["eps"] is not None:
                continue  # a certificate
            line = Line(*(row[name] for name in Line._fields))
            known = by_key.get(row["key"])
            made_of = (
                (known,) if known is not None else self._behind(row) if row["perturbation"] == WORST else ()
            )
            failed = error_told(row["checks"])
            number = Number(
                line,
                row["family"],
                CLEAN if row["family"] == CLEAN else str(row["perturbation"]),
                row["norm"],
                row["eps"],
                row["severity"],
                row["value"],
                int(row["n"] or 0),
                missing="" if row["value"] is not None else _failed_told(failed),
                made_of=made_of,
                doubts=() if failed is not None else self._doubts(row, made_of),
                estimated_for=row["estimated_for"],
                interval=None if row["estimated_for"] is None else (row["ci_low"], row["ci_high"]),
            )
            yield self._unstopped(number) if number.name == WORST else number

    def _behind(self, row: dict[str, Any]) -> tuple[Entry, ...]:
        """Return the records that a worst case is over."""
        own = [
            Attacked(entry.record, entry.labels, entry.checks)
            for entry in self.loaded.entries
            if entry.labels["family"] == "attack"
            and all(
                entry.labels[name] == row[name]
                for name in ("model", "defense", "data", "seed", "train_seed", "norm")
            )
            and row["access"] in (entry.labels["access"], "any")
        ]
        keys = {attack.record.key for attack in within(own, row["eps"])}
        return tuple(entry for entry in self.loaded.entries if entry.record.key in keys)

    def _stopped(self) -> Iterator[Number]:
        """Yield the numbers that were planned and not measured."""
        # a table calls a model what its records do, unless several share the name
        for labels in self.unmeasured:
            if labels["family"] not in _FAMILIES:
                continue
            line: dict[str, Any] = {name: labels.get(name) for name in Line._fields}
            yield Number(
                Line(**line),
                labels["family"],
                CLEAN if labels["family"] == CLEAN else labels["perturbation"],
                labels["norm"],
                labels.get("eps"),
                labels.get("severity"),
                missing=_STOPPED,
            )

    def _unstopped(self, worst: Number) -> Number:
        """Return a worst case, as missing where one of its attacks was planned and is not measured."""
        left = sorted(
            labels["perturbation"]
            for labels in self.unmeasured
            if labels["family"] == "attack"
            and labels["norm"] == worst.norm
            and (labels.get("eps") is None or f"{labels['eps']:.6g}" == f"{worst.eps:.6g}")
            and worst.line.access in (labels["access"], "any")
            and (labels["model"], labels["defense"]) == worst.bare[:2]
            and labels.get("train_seed") == worst.line.train_seed
        )
        return (
            replace(worst, missing=f"{', '.join(left)}: {_STOPPED}") if left and not worst.missing else worst
        )

    def _doubts(self, row: dict[str, Any], made_of: Sequence[Entry]) -> tuple[Check, ...]:
        """Return the checks that the table names beside a number, with what to do about them."""
        text = row["checks"]
        known = {check.name: check for check in worst_of_each(c for entry in made_of for c in entry.checks)}
        found = []
        for part in [] if text == "ok" else text.split(";"):
            (name,), verdict = check_names(part), verdict_in(part)
            advice = LOST_TOLD if name == LOST else card_of(name).says
            check = known.get(name)
            if check is None or verdict_text([check]) != part:
                check = Check(name, verdict, 0.0, advice)
            found.append(check)
        if row["family"] == "attack" and made_of and not self._is_examined(made_of):
            found.append(Check.not_made(NOT_EXAMINED, _UNSEEN))
        return tuple(found)

    def _is_examined(self, made_of: Sequence[Entry]) -> bool:
        looks = self.loaded.examinations
        return all(any(examines(look.record, entry.record) for look in looks) for entry in made_of)

    def _class_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the classes of each data set, where its records tell them."""
        found: dict[str, tuple[str, ...]] = {}
        for entry in self.loaded.entries:
            names = entry.record.provenance.get("class_names")
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                found[str(entry.labels["data"])] = tuple(names)
        return found


def _mean(line: Line, numbers: Sequence[Number]) -> Number | None:
    """Return the mean over the corruptions of a line, which is over those that the report's mean is over."""
    columns = {Column("corruption", n.name, "none", None, n.severity): n for n in numbers}
    inside = [columns[c] for c in Comparison("accuracy", (line,), tuple(columns), {}).in_mean()]
    if not inside:
        return None
    missing = next((f"{n.text}: {n.missing}" for n in inside if n.missing), "")
    values = [n.value for n in inside if n.value is not None]
    return Number(
        line,
        MEAN,
        MEAN,
        value=sum(values) / len(values) if values else None,
        n=min((n.n for n in inside if not n.missing), default=0),
        missing=missing,
        made_of=tuple(entry for n in inside for entry in n.made_of),
        doubts=worst_of_each(_each(inside)),
    )


def _keys(number: Number) -> tuple[str, ...]:
    return tuple(entry.record.key for entry in number.made_of)


def _each(numbers: Iterable[Number]) -> Iterator[Check]:
    for number in numbers:
        yield from number.doubts


def _failed_told(error: str | None) -> str:
    if error is None:
        return "it was measured and has no value"
    return f"its cell failed{error and f' ({error})'}; see failed/ in the run folder, and run again"
