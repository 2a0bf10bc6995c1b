"""What a run will cost, before it starts: passes through the networks by the attacks' fields, and seconds.

Passes are an upper bound: that of an image which resists to the end. Who is fooled early, or misclassified to begin
with, costs less. An attack may say itself what it costs, by a method ``cost(classes)`` that returns :class:`Passes`;
ours are known here. For a stochastic model, whose success is judged over several draws, the bound is a rough one.

Seconds are those passes at the speed of the first images of the run on this machine: batches that grow until one takes
a twentieth of a second, after one that is not counted, each the faster of two. That takes about half a second for each
architecture and defense. Training is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from robust_eval.attacks._losses import cross_entropy
from robust_eval.cell import Cell, ModelSource, content_key
from robust_eval.classifier import Classifier
from robust_eval.errors import RobustEvalError
from robust_eval.methods import Attack
from robust_eval.model_source import OwnModel, RecipeModel
from robust_eval.registry import describe
from robust_eval.rng import Rng, seeded
from robust_eval.workbench import Loaded, Workbench

__all__ = ["Estimate", "Line", "Passes", "Speed", "estimate", "passes", "untrained"]

LONG_ENOUGH = 0.05
"""Seconds a batch must take to be a measurement."""
FIRST, GROWTH = 4, 4
SCORING = "scoring"
"""The line of the passes that measure what an attack, a corruption or nothing has made of the images."""
FEW = 4
"""Forward passes outside the walk: at its ends, for the candidates, to confirm."""


class Passes(NamedTuple):
    """Passes through the network for one image, at most."""

    forwards: int
    backwards: int

    def times(self, count: int) -> Passes:
        """Return the passes of so many walks."""
        return Passes(self.forwards * count, self.backwards * count)

    def and_(self, other: Passes) -> Passes:
        """Return the passes of both."""
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)


class Speed(NamedTuple):
    """Seconds for one image."""

    forward: float
    gradient: float
    """A forward and a backward pass."""

    def seconds(self, passes: Passes) -> float:
        """Return how long passes take; those through which nothing goes back are cheaper."""
        return passes.forwards * self.forward + passes.backwards * max(self.gradient - self.forward, 0.0)


class Line(NamedTuple):
    """What one attack costs over all models and defenses."""

    name: str
    cells: int
    passes: Passes | None
    """For all images together; ``None`` where the attack's fields do not tell."""
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


def passes(attack: Attack, classes: int) -> Passes | None:
    """Return the passes an image costs at most, ``None`` where nothing is known of the attack."""
    if hasattr(attack, "cost"):
        own: Passes = attack.cost(classes)
        return own
    name, params = describe(attack).name, describe(attack).params
    prefix, colon, rest = name.partition(":")
    if prefix == "transfer":
        # the walk is on the surrogate, and does not stop early
        rule = _RULES.get(rest)
        return None if rule is None else rule(params, classes).and_(Passes(FEW, 0))
    if colon:
        return _of_a_peer(attack, params, classes)
    rule = _RULES.get(name)
    return None if rule is None else rule(params, classes)


def _walk(steps: int, *, columns: int = 1, forwards: int = 1) -> Passes:
    """A gradient in so many columns at each step, and forward passes beside it: one confirms what is proposed."""
    return Passes(steps * (1 + forwards) + FEW, steps * columns)


def _ascent(p: dict[str, Any], classes: int) -> Passes:
    return _walk(p.get("steps", 1)).times(p.get("restarts") or 1)


def _cw(p: dict[str, Any], classes: int) -> Passes:
    return _walk(p["steps"]).times(p["binary_search_steps"]).and_(Passes(p["line_search"] + FEW, 0))


def _deepfool(p: dict[str, Any], classes: int) -> Passes:
    columns = min(p["candidates"], classes) - 1
    return _walk(p["steps"], columns=columns).and_(Passes(p["line_search"] + FEW, 0))


def _smallest(p: dict[str, Any], classes: int) -> Passes:
    return _walk(p["steps"]).and_(Passes(p["line_search"] + FEW, 0))


def _apgd(p: dict[str, Any], classes: int) -> Passes:
    targets = min(p.get("targets", 1), classes - 1)
    return _walk(p["steps"] + 3).times((p["restarts"] or 1) * targets).and_(Passes(FEW, 0))


def _fab(p: dict[str, Any], classes: int) -> Passes:
    return _walk(p["steps"], columns=classes - 1, forwards=3).times(p.get("restarts") or 1)


def _fab_t(p: dict[str, Any], classes: int) -> Passes:
    targets = min(p["targets"], classes - 1)
    return _walk(p["steps"], forwards=3).times(targets * (p["restarts"] or 1))


def _noise(p: dict[str, Any], classes: int) -> Passes:
    return Passes(p["draws"] + FEW, 0)


def _square(p: dict[str, Any], classes: int) -> Passes:
    return Passes(p["queries"] + FEW, 0).times(p.get("restarts") or 1)


def _auto_attack(p: dict[str, Any], classes: int) -> Passes:
    version, one = p["version"], p | {"restarts": 1}
    ce = _apgd({**p, "targets": 1}, classes)
    if version == "rand":
        return ce.times(2 * p["draws"])
    few = {**one, "targets": min(p["targets"], 5)} if version == "standard" and p["norm"] == "l1" else one
    found = ce.and_(_apgd(few, classes)).and_(_fab_t(one, classes)).and_(_square(one, classes))
    return found if version == "standard" else found.and_(ce).and_(_fab(p, classes))


_RULES: dict[str, Callable[[dict[str, Any], int], Passes]] = {
    **dict.fromkeys(("fgsm", "bim", "mim", "pgd"), _ascent),
    **dict.fromkeys(("apgd_ce", "apgd_dlr", "apgd_t"), _apgd),
    **dict.fromkeys(("fab", "fab_minimal"), _fab),
    **dict.fromkeys(("ddn", "fmn"), _smallest),
    "fab_t": _fab_t,
    "cw": _cw,
    "deepfool": _deepfool,
    "noise": _noise,
    "square": _square,
    "auto_attack": _auto_attack,
}


_SMALLEST = (
    "CarliniWagnerAttack",
    "DeepFoolAttack",
    "DDNAttack",
    "FMNAttack",
    "EADAttack",
    "NewtonFoolAttack",
)
"""Endings of Foolbox's attacks that look for the smallest perturbation along gradients."""


def _of_a_peer(attack: Attack, p: dict[str, Any], classes: int) -> Passes | None:
    """The libraries' attacks that follow a gradient are counted like ours; of the others nothing is known."""
    name = describe(attack).name.partition(":")[2]
    restarts = p.get("restarts", p.get("n_restarts", 1))
    steps = p.get("steps", p.get("max_iterations", p.get("num_iter_set", 1)))
    if name in ("standard", "plus"):
        several = 5 if name == "plus" or p["norm"] == "l1" else 1
        return _auto_attack({**p, "version": name, "targets": 9, "restarts": several}, classes)
    if name in ("fab", "FAB"):
        return _fab({**p, "restarts": restarts}, classes)
    if name in ("square", "Square"):
        return Passes(p.get("queries", p.get("n_queries", 0)) + 2 * FEW, 0).times(restarts)
    known = name.endswith(_SMALLEST) or name in ("CW", "DeepFool", "EADL1", "EADEN")
    if not attack.gradients or name == "AutoAttack" or (attack.minimal_norm and not known):
        return None
    walks = restarts * (p["binary_search_steps"] if "initial_const" in p else 1)
    for repeats in ("eot_iter", "N", "m", "targets", "noise_batch_size"):
        walks *= p[repeats] + 1 if repeats in p else 1
    # a forward pass for each class's gradient
    return _walk(steps * (classes if "DeepFool" in name else 1)).times(walks)


def estimate(cells: Sequence[Cell], bench: Workbench) -> Estimate:
    """Return what the cells cost at most, attack by attack; models are asked a few images, and nothing is kept.

    Raises whatever a model raises.
    """
    started = time.perf_counter()
    speeds: dict[str, _Measured] = {}
    shared: set[str] = set()
    lines: dict[str, Line] = {}
    for cell in cells:
        n = len(cell.data.examples)
        draws = cell.draws if cell.defense is not None or cell.model.stochastic else 1
        scoring = Passes(n * draws, 0)
        speed = _speed(speeds, cell, bench, defended=True, fast=False).speed
        _add(lines, SCORING, scoring, speed.seconds(scoring))
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
        of_peer = name.startswith(("foolbox:", "torchattacks:", "pyautoattack:"))
        speed, classes = _speed(speeds, cell, bench, defended=cell.access == "adaptive", fast=not of_peer)
        one = passes(cell.perturbation, classes)
        whole = None if one is None else one.times(n)
        _add(lines, name, whole, 0.0 if whole is None else speed.seconds(whole))
    ordered = sorted(lines.values(), key=lambda line: line.name == SCORING)
    return Estimate(tuple(ordered), time.perf_counter() - started)


def untrained(source: ModelSource) -> Loaded:
    """Return a model as fast as the one that will be evaluated: itself, or its architecture before training."""
    if isinstance(source, OwnModel):
        return Loaded(source.network, source.weights_sha256)
    if not isinstance(source, RecipeModel):
        raise RobustEvalError(
            f"model {source.name}: expected a recipe or weights, got {type(source).__name__}"
        )
    channels, _, _ = source.examples.shape
    network = source.recipe.architecture.build(channels=channels, classes=source.examples.classes)
    return Loaded(network, "untrained")


def _add(lines: dict[str, Line], name: str, cost: Passes | None, seconds: float) -> None:
    known = lines.get(name, Line(name, 0, Passes(0, 0), 0.0))
    total = None if known.passes is None or cost is None else known.passes.and_(cost)
    lines[name] = Line(name, known.cells + 1, total, known.seconds + seconds)


class _Measured(NamedTuple):
    speed: Speed
    classes: int


def _speed(
    known: dict[str, _Measured], cell: Cell, bench: Workbench, *, defended: bool, fast: bool
) -> _Measured:
    """Return the speed and the classes of what is asked; models of one architecture are measured once."""
    source = cell.model
    recipe = (
        describe(source.recipe.architecture)._asdict() if isinstance(source, RecipeModel) else source.identity
    )
    defense = describe(cell.defense)._asdict() if defended and cell.defense is not None else None
    key = content_key({"architecture": recipe, "defense": defense, "fast": fast})
    if key not in known:
        model = bench.target(cell) if fast else bench.model(cell) if defended else bench.base(cell)
        known[key] = _measured(model, cell, bench)
    return known[key]


def _measured(model: Classifier, cell: Cell, bench: Workbench) -> _Measured:
    """Time batches that grow until one takes long enough; a first small one is not counted."""
    images, labels = bench.images(cell.data)

    def timed(count: int) -> _Measured:
        x, y = images[:count], labels[:count]
        rng = Rng(0).for_batch(len(x))
        started = time.perf_counter()
        logits = model.logits(x, rng=rng.child("forward"))
        logits.sum().item()  # a GPU answers before it is done
        between = time.perf_counter()
        y = y.clamp(max=logits.shape[1] - 1)
        found = model.input_gradient(x, y, cross_entropy, rng=rng.child("gradient"))
        found.gradient.sum().item()
        forward, gradient = between - started, time.perf_counter() - between
        return _Measured(Speed(forward / len(x), gradient / len(x)), logits.shape[1])

    with model.frozen(), seeded(Rng(0)):
        timed(min(2, len(images)))
        count, most = FIRST, min(len(images), model.batch_size)
        while True:
            found = min(timed(count), timed(count), key=lambda measured: measured.speed.gradient)
            if found.speed.gradient * count > LONG_ENOUGH or count >= most:
                return found
            count *= GROWTH
