"""What a run will cost, before it starts: passes through the networks, as its attacks say, and seconds.

Passes are an upper bound: that of an image which resists to the end. Who is fooled early, or misclassified to begin
with, costs less. An attack says what it costs by its method ``cost(classes)``, an analysis by ``cost(images,
classes)``. For a stochastic model, whose success is judged over several draws, the bound is a rough one; a gradient
counts as 16 draws, the most it is averaged over, where their number is found out in the attack.

Seconds are those passes at the speed of the first images of the run on this machine: batches that grow until one takes
a twentieth of a second, after one that is not counted, each the faster of two. That takes about half a second for each
architecture and defense. Training is not counted.
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

__all__ = ["Estimate", "Line", "Speed", "estimate"]

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


class Estimate(NamedTuple):
    """What a run costs, and what it cost to know."""

    lines: tuple[Line, ...]
    spent: float
    """Seconds that measuring took."""

    @property
    def seconds(self) -> float:
        """The sum of what is known."""
        return sum((line.seconds for line in self.lines), 0.0)


def estimate(cells: Sequence[Cell], bench: Workbench) -> Estimate:
    """Return what the cells cost at most, attack by attack; models are asked a few images, and nothing is kept.

    Raises whatever a model raises.
    """
    started = time.perf_counter()
    speeds: dict[str, _Measured] = {}
    shared: set[str] = set()
    lines: dict[str, Line] = {}
    for cell in cells:
        prepared = bench.prepare(cell)
        if isinstance(cell.perturbation, Examination):
            at_most = cell.perturbation.cost.times(cell.perturbation.images * _draws(prepared))
            speed = _speed(speeds, prepared, defended=True, fast=True).speed
            _add(lines, CHECKS, at_most, speed.seconds(at_most))
            continue
        if isinstance(cell.perturbation, Analysis):
            looked_at = len(cell.data.examples) + (0 if cell.other is None else len(cell.other.examples))
            speed, classes = _speed(speeds, prepared, defended=True, fast=False)
            look = cell.perturbation.cost(looked_at, classes)
            name = describe(cell.perturbation).name
            _add(lines, name, look, 0.0 if look is None else speed.seconds(look))
            continue
        n = len(cell.data.examples)
        draws = cell.draws if cell.stochastic else 1
        scoring = Passes(n * draws, 0)
        speed = _speed(speeds, prepared, defended=True, fast=False).speed
        _add(lines, SCORING, scoring, speed.seconds(scoring))
        if cell.perturbation is None and cell.defense is not None and cell.defense.certificate_passes:
            proof = Passes(n * cell.defense.certificate_passes, 0)
            speed = _speed(speeds, prepared, defended=False, fast=False).speed
            _add(lines, "certificates", proof, speed.seconds(proof))
        if not isinstance(cell.perturbation, Attack):
            continue
        name = describe(cell.perturbation).name
        if cell.access == "transfer":
            # made once, for all defenses of a model
            spec = content_key({part: cell.spec[part] for part in ("model", "data", "perturbation", "seed")})
            if spec in shared:
                _add(lines, name, Passes(0, 0), 0.0)
                continue
            shared.add(spec)
        of_peer = isinstance(cell.perturbation, Peer)
        speed, classes = _speed(speeds, prepared, defended=cell.access == "adaptive", fast=not of_peer)
        one = cell.perturbation.cost(classes)
        whole = None if one is None else one.times(n * (1 if of_peer else _draws(prepared)))
        _add(lines, name, whole, 0.0 if whole is None else speed.seconds(whole))
    ordered = sorted(lines.values(), key=lambda line: (line.name == SCORING) * 2 + (line.name == CHECKS))
    return Estimate(tuple(ordered), time.perf_counter() - started)


def _add(lines: dict[str, Line], name: str, cost: Passes | None, seconds: float) -> None:
    known = lines.get(name, Line(name, 0, Passes(0, 0), 0.0))
    total = None if known.passes is None or cost is None else known.passes.and_(cost)
    lines[name] = Line(name, known.cells + 1, total, known.seconds + seconds)


def _draws(prepared: Prepared) -> int:
    """Return over how many draws a gradient is averaged; the most it can be where that is found out in the attack."""
    return (prepared.cell.gradient_draws or MOST) if prepared.aimed_at.model.stochastic else 1


class _Measured(NamedTuple):
    speed: Speed
    classes: int


def _speed(known: dict[str, _Measured], prepared: Prepared, *, defended: bool, fast: bool) -> _Measured:
    """Return the speed and the classes of what is asked; models of one architecture are measured once."""
    cell = prepared.cell
    defense = describe(cell.defense)._asdict() if defended and cell.defense is not None else None
    key = content_key({"architecture": cell.model.structure, "defense": defense, "fast": fast})
    if key not in known:
        model = prepared.unadapted if fast else prepared.model if defended else prepared.base
        known[key] = _measured(model, prepared)
    return known[key]


def _measured(model: Classifier, prepared: Prepared) -> _Measured:
    """Time batches that grow until one takes long enough; a first small one is not counted."""
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
        try:
            found = model.input_gradient(x, y, cross_entropy, rng=rng.child("gradient"))
        except NoGradientError:  # an attack sees it mended
            return _Measured(Speed(forward / len(x), BOTH_WAYS * forward / len(x)), logits.shape[1])
        found.gradient.sum().item()
        gradient = time.perf_counter() - between
        return _Measured(Speed(forward / len(x), gradient / len(x)), logits.shape[1])

    with model.frozen(), seeded(Rng(0)):
        timed(min(2, len(images)))
        count, most = FIRST, min(len(images), model.batch_size)
        while True:
            found = min(timed(count), timed(count), key=lambda measured: measured.speed.gradient)
            if found.speed.gradient * count > LONG_ENOUGH or count >= most:
                return found
            count *= GROWTH
