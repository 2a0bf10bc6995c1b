"""How small a drop n images show, and how many images show a drop: a line for each share of images that may change.

What decides is the *agreement*: the share of images on which both models are right, or both wrong. It is taken from
runs where there are any: from a run beside a baseline, number by number; else from the models of one run beside its
first; of a single model nothing is known but its accuracy, and independent answers, 2 p (1 − p), are the least
agreement one would expect. Without a run there is a line for each agreement that is common between two checkpoints
(ours: 0.99 to 0.8), and one for independent answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from reports.drops import POWER, drop, images_for_drop, smallest_drop
from reports.gate.counterparts import counterpart, is_same
from reports.gate.numbers import WORST, Number, Run
from reports.tables import Line

__all__ = ["COMMON", "INDEPENDENT", "PowerLine", "of_runs", "of_shares"]

COMMON = (0.99, 0.95, 0.9, 0.8)
"""Agreement of two models, as is common: of a model retrained with small changes down to another architecture."""
INDEPENDENT = "independent answers"


@dataclass(frozen=True)
class PowerLine:
    """What n images show where so many change."""

    what: str
    """Whose number, or why this agreement."""
    n: int | None
    accuracy: float
    agreement: float
    smallest_drop: float | None
    """The least drop that is shown with the power; ``None`` where none is, or no n is given."""
    drop: float | None
    images: int | None
    """How many images show ``drop``; ``None`` where none do, or no drop is given."""
    confidence: float
    power: float = POWER

    def data(self) -> dict[str, object]:
        """Return it as plain data."""
        return asdict(self)


def of_shares(
    n: int | None, size: float | None, *, accuracy: float, agreement: float | None, confidence: float
) -> tuple[PowerLine, ...]:
    """Return a line for the agreement given, or for those that are common."""
    least = 1 - 2 * min(accuracy, 1 - accuracy)
    known = (
        [("", agreement)] if agreement is not None else [("", share) for share in COMMON if share >= least]
    )
    if agreement is None:
        known.append((INDEPENDENT, 1 - 2 * accuracy * (1 - accuracy)))
    return tuple(_line(what, n, accuracy, share, size, confidence) for what, share in known)


def of_runs(
    run: Run, baseline: Run | None, *, n: int | None, size: float | None, confidence: float
) -> tuple[PowerLine, ...]:
    """Return a line for each number of a run: at its own number of images where none is given."""
    return tuple(
        _line(what, number.n if n is None else n, number.value or 0.0, agreement, size, confidence)
        for what, number, agreement in (_beside(run, baseline) if baseline else _within(run))
    )


def _line(
    what: str, n: int | None, accuracy: float, agreement: float, size: float | None, confidence: float
) -> PowerLine:
    apart = 1 - agreement
    least = None if n is None else smallest_drop(n, apart, confidence=confidence)
    images = None if size is None else images_for_drop(size, apart, confidence=confidence)
    return PowerLine(what, n, accuracy, agreement, least, size, images, confidence)


_Beside = Iterator[tuple[str, Number, float]]


def _beside(run: Run, baseline: Run) -> _Beside:
    """Yield the numbers that both runs have, with how far they agree."""
    for number in _shown(run):
        other = counterpart(number, run, baseline)
        if isinstance(other, Number) and not is_same(number, other):
            scores, before = number.scores(), other.scores()
            if set(scores.index) == set(before.index):
                apart = drop(scores, before.reindex(scores.index)).discordant
                yield f"{run.who(number)}: {number.text}", number, 1 - apart


def _within(run: Run) -> _Beside:
    """Yield the numbers of the first model beside those of the others, or of the only one by its accuracy."""
    models = run.models
    own: dict[tuple[str, Line], list[Number]] = {}
    for number in _shown(run):
        own.setdefault((number.text, number.line._replace(model="")), []).append(number)
    for (text, _), (first, *others) in own.items():
        if first.line.model != models[0] or first.value is None:
            continue
        if not others:
            yield f"{run.who(first)}: {text}, {INDEPENDENT}", first, 1 - 2 * first.value * (1 - first.value)
        for other in others:
            scores, before = other.scores(), first.scores()
            if set(scores.index) == set(before.index):
                apart = drop(scores, before.reindex(scores.index)).discordant
                yield f"{run.who(other)} beside {run.who(first)}: {text}", other, 1 - apart


def _shown(run: Run) -> Sequence[Number]:
    """Return the numbers that are there, but for estimates, of which no image is compared; of single corruptions their
    mean stands for them.
    """
    there = [
        number
        for number in run.numbers
        if not number.missing and number.value is not None and number.estimated_for is None
    ]
    alone = {n.text for n in there if n.name == WORST and len(n.made_of) == 1}
    return [n for n in there if n.family != "corruption" and not (n.name == WORST and n.text in alone)]
