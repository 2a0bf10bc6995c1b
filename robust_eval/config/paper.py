"""``[paper]`` of an experiment file: the published table that it makes again, its numbers as data.

``[scale.full]`` changes a file to the paper's own size (:mod:`robust_eval.config.scale`). What the paper leaves open is
named with our choice, so that a report can mark it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from robust_eval.fields import Positive, Real, Whole
from robust_eval.registry import checked
from robust_eval.threat import parse_number

__all__ = ["MEMORISATION", "SCALES", "TRAINING", "Block", "Chosen", "Layout", "Paper", "Reported", "Scale"]

Scale = Literal["small", "full"]
SCALES: tuple[Scale, ...] = ("small", "full")
Text = Annotated[str, Field(max_length=2000)]
Name = Annotated[str, Field(min_length=1, max_length=300)]
TRAINING = "training"
"""The perturbation of a number that was logged in training."""
MEMORISATION = "memorisation"
"""That of a number on training images: ``untouched_error`` and ``corrupted_error``, of the last pass."""


@checked
@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the paper sets its table."""

    rows: Text = "model"
    """What its rows are, as their heading says."""
    columns: Text = ""
    """What its columns are."""
    metric: Name = "accuracy"
    """What its numbers are: ``accuracy``, ``error``, ``top5_accuracy``, ``top5_error`` or another name of a metric."""
    unit: Literal["percent", "fraction", "number"] = "percent"
    """Whether shares are given in percent or as parts of one; ``number`` is what is no share."""


@checked
@dataclass(frozen=True, kw_only=True)
class Reported:
    """One published number, and what of this experiment is to be held beside it."""

    model: Name
    """The model of this experiment."""
    value: Real
    """As the paper prints it, in the unit of the layout."""
    sd: Annotated[Real, Field(ge=0)] | None = None
    """Its standard deviation over trainings, where the paper states one."""
    runs: Annotated[Whole, Field(ge=1)] = 1
    """Of how many trainings it is the mean."""
    row: Name | None = None
    """Its row of the table; the model if left out."""
    column: Name | None = None
    """Its column; the perturbation or the metric if left out."""
    perturbation: Name = "clean"
    """An attack, a corruption, an analysis, ``training`` for what was logged after a pass, or ``memorisation`` for the
    error on training images with the true and with wrong labels."""
    metric: Name | None = None
    """Its metric, where that is not the layout's."""
    unit: Literal["percent", "fraction", "number"] | None = None
    defense: Name = "none"
    access: Literal["none", "transfer", "adaptive"] | None = None
    """How the attack is aimed at a defended model; ``adaptive`` if left out."""
    eps: Real | Annotated[str, Field(max_length=40)] | None = None
    """The radius, where the attack is measured at several."""
    severity: Whole | None = None
    params: dict[str, Any] | None = None
    """Parameters of the perturbation, where one of them tells it from another."""
    epoch: Annotated[Whole, Field(ge=1)] | None = None
    """The pass of a number of the training, or the epoch of one of an analysis."""
    footnote: Text = ""
    """What is odd about it: contradictions of the paper, for one."""
    cannot: Text = ""
    """Why nothing of this experiment can be compared with it."""

    def __post_init__(self) -> None:
        if isinstance(self.eps, str):
            object.__setattr__(self, "eps", float(parse_number(self.eps)))
        if self.perturbation == TRAINING and self.epoch is None:
            raise ValueError("expected an epoch with perturbation = 'training', got none")


@checked
@dataclass(frozen=True, kw_only=True)
class Block:
    """Published numbers as the paper sets them, which is how they are proof-read.

    In the texts, ``{row}`` and ``{column}`` stand for the headings of a number.
    """

    rows: Annotated[tuple[Name, ...], Field(min_length=1)]
    columns: Annotated[tuple[Name, ...], Field(min_length=1)]
    numbers: tuple[tuple[Real | Literal["-"], ...], ...]
    """A list for each row; ``"-"`` where the paper has no number."""
    model: Name = "{row}"
    perturbation: Name = "clean"
    metric: Name | None = None
    unit: Literal["percent", "fraction", "number"] | None = None
    defense: Name = "none"
    access: Literal["none", "transfer", "adaptive"] | None = None
    eps: Real | Annotated[str, Field(max_length=40)] | None = None
    severity: Whole | None = None
    params: dict[str, Any] | None = None
    epoch: Whole | Name | None = None
    footnote: Text = ""
    cannot: Text = ""

    def __post_init__(self) -> None:
        sizes = [len(line) for line in self.numbers]
        if sizes != [len(self.columns)] * len(self.rows):
            raise ValueError(
                f"expected {len(self.rows)} rows of {len(self.columns)} numbers, got rows of {sizes or 'none'}"
            )

    @property
    def reported(self) -> tuple[Reported, ...]:
        """Each number by itself; raises ``ValueError`` for one that is none."""
        return tuple(
            self._reported(row, column, value)
            for row, line in zip(self.rows, self.numbers, strict=True)
            for column, value in zip(self.columns, line, strict=True)
            if not isinstance(value, str)
        )

    def _reported(self, row: str, column: str, value: float) -> Reported:
        def filled(text: str) -> str:
            return text.replace("{row}", row).replace("{column}", column)

        return Reported(
            model=filled(self.model),
            value=value,
            row=row,
            column=column,
            perturbation=filled(self.perturbation),
            metric=None if self.metric is None else filled(self.metric),
            unit=self.unit,
            defense=filled(self.defense),
            access=self.access,
            eps=filled(self.eps) if isinstance(self.eps, str) else self.eps,
            severity=self.severity,
            params=self.params,
            epoch=int(filled(self.epoch)) if isinstance(self.epoch, str) else self.epoch,
            footnote=self.footnote,
            cannot=self.cannot,
        )


@checked
@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What the paper leaves open."""

    field: Name
    """The field of this experiment."""
    choice: Text
    """Our value of it at full size."""
    why: Text
    """What the paper says, and why we chose so."""


@checked
@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a table was published, and what it says."""

    title: Name
    link: Annotated[str, Field(max_length=500)] = ""
    """arXiv or another address; empty for what is not published."""
    table: Name
    """Which of its tables."""
    data: Name
    """The set that its numbers are on."""
    layout: Layout = Layout()
    within: Positive | None = None
    """Half the width of an interval, in the unit of the number, beyond which nothing can be told; two points of a
    share, a tenth of any other number, if left out."""
    block: tuple[Block, ...] = ()
    """Numbers as the paper sets them."""
    reported: tuple[Reported, ...] = ()
    """Numbers one by one."""
    chosen: tuple[Chosen, ...] = ()
    notes: tuple[Text, ...] = ()
    """What is odd about the whole table: where the paper contradicts itself, for one."""
    differs: tuple[Text, ...] = ()
    """What is not as in the paper even at full size."""
    scale: Scale = "full"
    """At which size this was run; written by ``run``."""
    changed: tuple[Text, ...] = ()
    """Fields that options changed, so that it is the paper's experiment no longer; written by ``run``."""

    def __post_init__(self) -> None:
        places: set[tuple[str, str]] = set()
        for each in self.numbers:
            place = (each.row or each.model, each.column or "")
            if each.column and place in places:
                raise ValueError(f"expected one number in row {place[0]!r} and column {place[1]!r}, got two")
            places.add(place)

    @property
    def numbers(self) -> tuple[Reported, ...]:
        """All published numbers."""
        return (*(each for block in self.block for each in block.reported), *self.reported)
