"""What a run will cost, before it starts: passes through the networks, as its attacks say, and seconds.

Passes are an upper bound: that of an image which resists to the end. Who is fooled early, or misclassified to begin
with, costs less. An attack says what it costs by its method ``cost(classes)``, an analysis by ``cost(images,
classes)``. For a stochastic model, whose success is judged over several draws, the bound is a rough one; a gradient
counts as 16 draws, the most it is averaged over, where their number is found out in the attack.

Seconds are those passes at the speed of the first images of the run on this machine: batches that grow until one takes
a twentieth of a second, after one that is not counted, each the faster of two. All of that takes five seconds at most:
of a large network one image is timed, and what is left after five seconds is not timed, which is said. Training is not
counted.

Beside the bound stands what is likely (:mod:`robust_eval.run.likely`), where the weights are known.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from robust_eval.adaptive.expectation import MOST
from robust_eval.attacks.peers._peer import Peer
from robust_eval.checks.examination import Examination
from robust_eval.classifier import Classifier
from robust_eval.errors import NoGradientError
from robust_eval.evaluation.prepared import Prepared
from robust_eval.evaluation.workbench import Workbench
from robust_eval.identity import content_key
from robust_eval.losses import cross_entropy
from robust_eval.methods import Analysis, Attack, Passes
from robust_eval.registry import describe
from robust_eval.results.cell import Cell
from robust_eval.rng import Rng, seeded
from robust_eval.run.likely import Look, Looks, likely

__all__ = ["Estimate", "Line", "Speed", "estimate"]

AT_MOST = 5.0
"""Seconds that measuring may take, all in all."""
TWINS = 60
"""Passes of an image that making a faster twin of a network costs, about."""
LONG_ENOUGH = 0.05
"""Seconds a batch must take to be a measurement."""
FIRST, GROWTH = 4, 4
BOTH_WAYS = 3
"""A forward and a backward pass in forward passes, where that cannot be measured."""
CHECKS = "checks"
"""The line of the examinations."""
SCORING = "scoring"
"""The line of the passes that measure what an attack, a corruption or nothing has made of the images."""


class Speed(NamedTuple):
    """Seconds for one image."""

    forward: float
    gradient: float
    """A forward and a backward pass."""

    def seconds(self, passes: Passes) -> float:
        """Return how long passes take; those through which nothing goes back are cheaper."""
        return passes.forwards * self.forward + passes.backwards * max(self.gradient - self.forward, 0.0)


class Line(NamedTuple):
    """What one attack or analysis costs over all models and defenses."""

    name: str
    cells: int
    passes: Passes | None
    """For all images together; ``None`` where the attack does not tell."""
    seconds: float
    likely: float | None = None
    """Seconds if images fall as they do in a quick attack; ``None`` where that was not tried."""
    untimed: int = 0
    """How many of the cells are not in the seconds: there was no time to measure them."""


class Estimate(NamedTuple):
    """What a run costs, and what it cost to know."""

    lines: tuple[Line, ...]
    spent: float
    """Seconds that measuring took."""
    looks: tuple[Look, ...] = ()
    """The quick attacks by which the likely seconds are told."""

    @property
    def seconds(self) -> float:
        """The sum of what is known."""
        return sum((line.seconds for line in self.lines), 0.0)

    @property
    def likely(self) -> float | None:
        """The sum of the likely seconds, bounds where there are no others; ``None`` where there are bounds alone."""
        if all(line.likely is None for line in self.lines):
            return None
        return sum(line.seconds if line.likely is None else line.likely for line in self.lines)


def estimate(cells: Sequence[Cell], bench: Workbench) -> Estimate:
    """Return what the cells cost at most, attack by attack; models are asked a few images, and nothing is kept.

    Raises whatever a model raises.
    """
    speeds, shared, tally = _Speeds(), set[str](), _Tally()
    attacked: list[tuple[str, Prepared, Passes, _Measured]] = []
    for cell in cells:
        prepared = bench.prepare(cell)
        if isinstance(cell.perturbation, Examination):
            at_most = cell.perturbation.cost.times(cell.perturbation.images * _draws(prepared))
            tally.add(CHECKS, at_most, speeds.of(prepared, defended=True, fast=True))
            continue
        if isinstance(cell.perturbation, Analysis):
            looked_at = len(cell.data.examples) + (0 if cell.other is None else len(cell.other.examples))
            measured = speeds.of(prepared, defended=True, fast=False)
            look = cell.perturbation.cost(looked_at, _classes(prepared, measured))
            tally.add(describe(cell.perturbation).name, look, measured)
            continue
        n = len(cell.data.examples)
        draws = cell.draws if cell.stochastic else 1
        tally.add(SCORING, Passes(n * draws, 0), speeds.of(prepared, defended=True, fast=False))
        if cell.perturbation is None and cell.defense is not None and cell.defense.certificate_passes:
            proof = Passes(n * cell.defense.certificate_passes, 0)
            tally.add("certificates", proof, speeds.of(prepared, defended=False, fast=False))
        if not isinstance(cell.perturbation, Attack):
            continue
        name = describe(cell.perturbation).name
        of_peer = isinstance(cell.perturbation, Peer)
        measured = speeds.of(prepared, defended=cell.access == "adaptive", fast=not of_peer)
        if cell.access == "transfer":
            # made once, for all defenses of a model
            spec = content_key({part: cell.spec[part] for part in ("model", "data", "perturbation", "seed")})
            if spec in shared:
                tally.add(name, Passes(0, 0), measured)
                continue
            shared.add(spec)
        one = cell.perturbation.cost(_classes(prepared, measured))
        whole = None if one is None else one.times(n * (1 if of_peer else _draws(prepared)))
        if (
            whole is not None and cell.estimate is not None
        ):  # of the proxy; that of all images is the most it takes
            whole = whole.and_(Passes(n, n))
        tally.add(name, whole, measured)
        if whole is not None and measured is not None:
            attacked.append((name, prepared, whole, measured))
    looks = Looks(speeds.until)
    for name, prepared, whole, measured in attacked:
        bound = measured.speed.seconds(whole)
        found = looks.at(prepared, measured.speed.gradient)
        if found is not None:
            tally.expect(name, measured.speed.seconds(likely(prepared, whole, found)), bound)
    return Estimate(tally.ordered, time.perf_counter() - speeds.started, looks.found)


class _Tally:
    """Adds up cells that are told in one line."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def add(self, name: str, cost: Passes | None, measured: _Measured | None) -> None:
        known = self._lines.get(name, Line(name, 0, Passes(0, 0), 0.0))
        total = None if known.passes is None or cost is None else known.passes.and_(cost)
        timed = cost is not None and measured is not None
        seconds = measured.speed.seconds(cost) if cost is not None and measured is not None else 0.0
        untimed = known.untimed + (cost is not None and not timed)
        self._lines[name] = Line(name, known.cells + 1, total, known.seconds + seconds, None, untimed)

    def expect(self, name: str, seconds: float, bound: float) -> None:
        """Count what is likely of a cell in place of its bound."""
        known = self._lines[name]
        before = known.seconds if known.likely is None else known.likely
        self._lines[name] = known._replace(likely=before - bound + min(seconds, bound))

    @property
    def ordered(self) -> tuple[Line, ...]:
        """The attacks first, scoring last."""
        lines = self._lines.values()
        return tuple(sorted(lines, key=lambda line: (line.name == SCORING) * 2 + (line.name == CHECKS)))


def _draws(prepared: Prepared) -> int:
    """Return over how many draws a gradient is averaged; the most it can be where that is found out in the attack."""
    return (prepared.cell.gradient_draws or MOST) if prepared.aimed_at.model.stochastic else 1


class _Measured(NamedTuple):
    speed: Speed
    classes: int


def _classes(prepared: Prepared, measured: _Measured | None) -> int:
    return prepared.cell.data.examples.classes if measured is None else measured.classes


class _Speeds:
    """The speeds of models: those of one architecture are measured once, as long as there is time."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.until = self.started + AT_MOST
        self._known: dict[str, _Measured | None] = {}

    def of(self, prepared: Prepared, *, defended: bool, fast: bool) -> _Measured | None:
        """Return the speed and the classes of what is asked; ``None`` where there was no time to measure it."""
        cell = prepared.cell
        defense = describe(cell.defense)._asdict() if defended and cell.defense is not None else None
        key = content_key({"architecture": cell.model.structure, "defense": defense, "fast": fast})
        if key not in self._known:
            plain = self.of(prepared, defended=defended, fast=False) if fast else None
            left = self.until - time.perf_counter()
            if left <= 0:
                self._known[key] = plain
            elif plain is not None and TWINS * plain.speed.forward > left / 2:
                self._known[key] = plain  # which a faster twin would undercut: the bound holds
            else:
                model = prepared.unadapted if fast else prepared.model if defended else prepared.base
                self._known[key] = _measured(model, prepared, left / 2)
        return self._known[key]


def _measured(model: Classifier, prepared: Prepared, seconds: float = AT_MOST) -> _Measured:
    """Time batches that grow until one takes long enough; a first image is not counted, unless it took too long."""
    started = time.perf_counter()
    images, labels = prepared.images(slice(model.batch_size))

    def timed(count: int) -> _Measured:
        x, y = images[:count], labels[:count]
        rng = Rng(0).for_batch(len(x))
        started = time.perf_counter()
        logits = model.logits(x, rng=rng.child("forward"))
        logits.sum().item()  # a GPU answers before it is done
        between = time.perf_counter()
        y = y.clamp(max=logits.shape[1] - 1)
        forward = between - started
        guessed = _Measured(Speed(forward / len(x), BOTH_WAYS * forward / len(x)), logits.shape[1])
        if forward > seconds / 4:
            return guessed
        try:
            found = model.input_gradient(x, y, cross_entropy, rng=rng.child("gradient"))
        except NoGradientError:  # an attack sees it mended
            return guessed
        found.gradient.sum().item()
        gradient = time.perf_counter() - between
        return _Measured(Speed(forward / len(x), gradient / len(x)), logits.shape[1])

    with model.frozen(), seeded(Rng(0)):
        found = timed(1)
        if time.perf_counter() - started > seconds / 4:
            return found
        count, most = FIRST, min(len(images), model.batch_size)
        while True:
            found = min(timed(count), timed(count), key=lambda measured: measured.speed.gradient)
            again = 2 * GROWTH * count * found.speed.gradient
            enough = found.speed.gradient * count > LONG_ENOUGH or count >= most
            if enough or time.perf_counter() - started + again > seconds:
                return found
            count *= GROWTH
