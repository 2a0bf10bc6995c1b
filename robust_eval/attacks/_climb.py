"""One climb of Auto-PGD: where it stands, when its steps are halved, and what it brings home.

The rules are those of :mod:`.apgd`. All examples of a task climb side by side, each to one class or to several; an
example leaves with all its walks. A state is a row for each walk, and each step makes a new one.

One file, though a long one: its parts share the state and are read in the order in which a step takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.attacks._aim import Aim, mean_probability_margin
from robust_eval.attacks._l1 import project_l1, random_start_l1, sparse_direction
from robust_eval.classifier import Classifier, Loss
from robust_eval.geometry import project, random_start, steepest
from robust_eval.losses import margin
from robust_eval.rng import Rng
from robust_eval.threat import Ball
from robust_eval.types import Images, Labels, Logits, Mask

__all__ = ["Found", "Rules", "Task", "climb"]

MOMENTUM = 0.75
"""Share α of the new step in a move; the rest repeats the move before."""


class Rules(NamedTuple):
    """How a climb is made: what the fields of an attack say."""

    norm: Ball
    eps: float
    steps: int
    rho: float
    """Share of the steps that must raise the loss for the step size to stay."""
    draws: int
    """Draws of a stochastic model that a gradient is averaged over."""


class Task(NamedTuple):
    """One walk of some examples, to one class or to several side by side."""

    rules: Rules
    model: Classifier
    loss: Loss
    x: Images
    y: Labels
    targets: Int[Tensor, "n targets"] | None
    rng: Rng
    start: Images | None = None
    """Points to start from, in ball and box, with steps of half the usual size; ``None`` draws them."""

    @property
    def walks(self) -> int:
        """How many walks an example makes side by side."""
        return 1 if self.targets is None else self.targets.shape[1]


class Found(NamedTuple):
    """The point to hand back for each example, the step at which it fooled the model, and how good it is."""

    x_adv: Images
    step: Int[Tensor, " n"]
    merit: Float[Tensor, " n"]

    @classmethod
    def none(cls, x: Images, y: Labels) -> Found:
        """Return the images themselves, chosen by nothing."""
        return cls(x.clone(), torch.full_like(y, -1), x.new_full((len(x),), -torch.inf))

    def take(self, rows: Int[Tensor, " m"], found: Found) -> None:
        """Write what was found for some rows where it is better than what there is."""
        better = found.merit > self.merit[rows]
        for mine, new in zip(self, found, strict=True):
            mine[rows[better]] = new[better]


class State(NamedTuple):
    """Where the walks stand: a row for each example and class that is still walked to."""

    owner: Int[Tensor, " n"]
    """Whose walk it is: a position among the examples of the task."""
    x: Images
    asked: Int[Tensor, "n ..."]
    """What the loss looks up: the label, or label and target."""
    x_adv: Images
    previous: Images
    gradient: Images
    value: Float[Tensor, " n"]
    margin: Float[Tensor, " n"]
    """How far another class is ahead of the label, where nobody leaves early."""
    best: Images
    best_gradient: Images
    best_value: Float[Tensor, " n"]
    size: Float[Tensor, "n 1 1 1"]
    """Step size η."""
    rises: Int[Tensor, " n"]
    """Steps since the last checkpoint that raised the loss."""
    halved: Mask
    """Whether η was halved at the last checkpoint."""
    best_then: Float[Tensor, " n"]
    """The best loss at the last checkpoint."""
    changed: Int[Tensor, " n"]
    """Pixels in which the best point differed from the image at the last checkpoint."""

    @classmethod
    def at(cls, point: Images, size: float, x: Images, owner: Tensor, asked: Tensor) -> State:
        """Stand at the start of a climb, with steps of this size."""
        lowest = point.new_full((len(point),), -torch.inf)
        return cls(
            owner=owner,
            x=x,
            asked=asked,
            x_adv=point,
            previous=point,
            gradient=point,
            value=-lowest,
            margin=lowest,
            best=point,
            best_gradient=point,
            best_value=lowest,
            size=point.new_full((len(point), 1, 1, 1), size),
            rises=torch.zeros_like(owner),
            halved=torch.ones_like(owner, dtype=torch.bool),
            best_then=lowest,
            changed=_changed(point, x),
        )

    def select(self, which: Mask) -> State:
        """Return where some of the walks stand."""
        return State(*(part[which] for part in self))


def climb(task: Task) -> Found:
    """Walk once from a random start towards each class of the task; an example leaves with all its walks."""
    rules, x = task.rules, task.x
    found = Found.none(x, task.y)
    # one class after the other: an example's first row is that of its likeliest
    owner = torch.arange(len(x), device=x.device).repeat(task.walks)
    asked = task.y if task.targets is None else torch.stack([task.y[owner], task.targets.T.flatten()], 1)
    phases = _phases(rules.eps, rules.norm, rules.steps)
    widest = phases[0][0]
    if task.start is None:
        draws = [task.rng.child("start", walk) for walk in range(task.walks)]
        start, size = torch.cat([_start(x, rules.norm, widest, each) for each in draws]), 1.0
    else:
        start, size = task.start[owner], 0.5
    state = State.at(start, size * _first_size(rules.norm, widest), x[owner], owner, asked)
    taken = 0
    for radius, steps in phases:
        if taken:
            point, size = project_l1(state.best, state.x, radius), _first_size(rules.norm, radius)
            state = State.at(point, size, state.x, state.owner, state.asked)
        state = _take_steps(task, state, found, radius, steps, taken)
        taken += steps
        if not len(state.owner):
            return found
    return _resisting(task, state, found)


def _phases(eps: float, norm: Ball, steps: int) -> list[tuple[float, int]]:
    """Radius and steps of each part of a walk; where steps are too few there is only the ball itself."""
    wide = math.ceil(0.3 * steps)
    if norm != "l1" or steps <= 2 * wide:
        return [(eps, steps)]
    return [(3 * eps, wide), (2 * eps, wide), (eps, steps - 2 * wide)]


def _start(x: Images, norm: Ball, radius: float, rng: Rng) -> Images:
    return random_start_l1(x, radius, rng) if norm == "l1" else random_start(x, norm, radius, rng)


def _first_size(norm: Ball, radius: float) -> float:
    return radius if norm == "l1" else 2 * radius


def _take_steps(task: Task, state: State, found: Found, radius: float, steps: int, taken: int) -> State:
    """Take ``steps`` steps in the ball of ``radius``; write whom they fool into ``found`` and go on without them."""
    rules, last = task.rules, steps
    window = max(int((0.04 if rules.norm == "l1" else 0.22) * steps), 1)
    shortest, shrinking = max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    checkpoint = window
    for t in range(steps + 1):
        rng = task.rng.child("climb", taken, "step", t).select(state.owner)
        logits, state = _asked(task, state, rng, gradient=t < last)
        if task.model.stops_early:
            fooled = _fooled(task, state, logits, radius, rng, exact=t == last)
            state = _without(state, fooled, found, taken + t)
            if not len(state.owner):
                break
        elif radius == rules.eps:
            _keep_largest_margin(state, found)
        state = _noted(state)
        if t == last:
            break
        if t == checkpoint and rules.norm == "l1":
            state = _sparsity_adapted(state, radius)
            checkpoint += window
        elif t == checkpoint:
            state = _size_adapted(state, rules.rho * window)
            window = max(window - shrinking, shortest)
            checkpoint += window
        x_adv = _moved(state, rules.norm, radius, first=t == 0)
        state = state._replace(x_adv=x_adv, previous=state.x_adv)
    return state


def _asked(task: Task, state: State, rng: Rng, *, gradient: bool) -> tuple[Logits, State]:
    """Return the logits of one draw, and the state with the loss and its gradient summed over the draws."""
    model, value, slope = task.model, torch.zeros_like(state.value), None
    ahead = torch.zeros_like(value)
    for draw in range(model.calls(task.rules.draws)):
        stream = rng.child("draw", draw)
        if gradient:
            logits, new = model.input_gradient(state.x_adv, state.asked, task.loss, rng=stream)
            slope = new if slope is None else slope.add_(new)
        else:
            logits = model.logits(state.x_adv, rng=stream)
        value = value + task.loss(logits, state.asked)
        if not model.stops_early:
            ahead = ahead + margin(logits, task.y[state.owner])
    value = torch.where(value.isnan(), -torch.inf, value).to(state.value.dtype)
    ahead = torch.where(ahead.isnan(), torch.inf, ahead).to(value.dtype)
    rises = state.rises + (value > state.value)
    slope = state.gradient if slope is None else slope
    return logits, state._replace(value=value, margin=ahead, gradient=slope, rises=rises)


def _fooled(task: Task, state: State, logits: Logits, radius: float, rng: Rng, *, exact: bool) -> Mask:
    """Return where a point inside the ball fools the model; logits that are not ``exact`` only propose."""
    aim = Aim(task.y[state.owner])
    fooled = aim.reached(logits)
    if radius > task.rules.eps:
        fooled &= (state.x_adv - state.x).flatten(1).abs().sum(1) <= task.rules.eps
    if task.model.proposes and not exact:
        rows = fooled.nonzero()[:, 0]
        if len(rows):
            fooled[rows] = aim.select(rows).holds(task.model, state.x_adv[rows], rng=rng.select(rows))
    return fooled


def _without(state: State, fooled: Mask, found: Found, step: int) -> State:
    """Write down whom these points fool, the walk to the likeliest class first, and drop all walks of theirs."""
    rows = fooled.nonzero()[:, 0]
    if not len(rows):
        return state
    none = len(fooled)
    first = torch.full_like(found.step, none).scatter_reduce(0, state.owner[rows], rows, "amin")
    done = first < none
    found.x_adv[done] = state.x_adv[first[done]]
    found.step[done] = step
    found.merit[done] = torch.inf
    return state.select(~done[state.owner])


def _keep_largest_margin(state: State, found: Found) -> None:
    """Keep, of all points of an example, the one at which another class is furthest ahead.

    Not that of the highest loss: DLR, which scales the margin, may fall where the margin grows.
    """
    ahead, rows = _best_walk(state.margin, len(found.step))
    better = ahead > found.merit
    found.x_adv[better] = state.x_adv[rows[better]]
    found.merit[better] = ahead[better]


def _best_walk(merit: Float[Tensor, " n"], examples: int) -> tuple[Float[Tensor, " m"], Int[Tensor, " m"]]:
    """Return the highest merit of each example's walks, and its row."""
    # an example leaves with all its walks: those who are left have one in each row of this table
    highest, walk = merit.view(-1 if examples else 1, examples).max(0)
    return highest, walk * examples + torch.arange(examples, device=merit.device)


def _noted(state: State) -> State:
    """Keep the point if its loss is the highest so far."""
    higher = state.value > state.best_value
    here = higher.view(-1, 1, 1, 1)
    return state._replace(
        best=torch.where(here, state.x_adv, state.best),
        best_gradient=torch.where(here, state.gradient, state.best_gradient),
        best_value=torch.where(higher, state.value, state.best_value),
    )


def _size_adapted(state: State, enough: float) -> State:
    """Halve the steps of the walks that do not climb any more, and send those back to their best point."""
    few = state.rises <= enough
    halve = few | (~state.halved & (state.best_value <= state.best_then))
    state = _back_to_best(state, halve)
    return state._replace(
        size=torch.where(halve.view(-1, 1, 1, 1), state.size / 2, state.size),
        rises=torch.zeros_like(state.rises),
        halved=halve,
        best_then=state.best_value,
    )


def _sparsity_adapted(state: State, radius: float) -> State:
    """Spread the steps over as many pixels as the best point needs; start anew from it where it got sparser."""
    changed = _changed(state.best, state.x)
    sparser = changed < 0.95 * state.changed
    state = _back_to_best(state, sparser)
    shorter = (state.size / 1.5).clamp(min=radius / 10)
    size = torch.where(sparser.view(-1, 1, 1, 1), torch.full_like(shorter, radius), shorter)
    return state._replace(size=size, changed=changed)


def _back_to_best(state: State, which: Mask) -> State:
    here = which.view(-1, 1, 1, 1)
    return state._replace(
        x_adv=torch.where(here, state.best, state.x_adv),
        gradient=torch.where(here, state.best_gradient, state.gradient),
    )


def _changed(point: Images, x: Images) -> Int[Tensor, " n"]:
    return (point != x).flatten(1).sum(1)


def _moved(state: State, norm: Ball, radius: float, *, first: bool) -> Images:
    """Return the next point of each walk."""
    if norm == "l1":
        # rounded down: two pixels, rounded up, would never become one
        pixels = (state.changed / 1.5).long().clamp(min=1)
        step = sparse_direction(state.gradient, pixels).mul_(state.size)
        return project_l1(step.add_(state.x_adv), state.x, radius)
    inside = _projection(state.x, norm, radius)
    step = steepest(state.gradient, norm).mul_(state.size)
    moved = inside(step.add_(state.x_adv))
    if first:
        return moved
    repeated = (state.x_adv - state.previous).mul_(1 - MOMENTUM)
    return inside(torch.lerp(state.x_adv, moved, MOMENTUM).add_(repeated))


def _projection(x: Images, norm: Ball, radius: float) -> Callable[[Images], Images]:
    """Return what brings points back into ball and box; it may write on them."""
    if norm != "linf":
        return lambda point: project(point, x, norm, radius)
    # as project does it, but the bounds are made once for two points
    low, high = (x - radius).clamp_(min=0), (x + radius).clamp_(max=1)
    return lambda point: point.clamp_(low, high)


def _resisting(task: Task, state: State, found: Found) -> Found:
    """Write down the best point of each example that is left, of all the classes it was walked to."""
    model, steps = task.model, task.rules.steps
    if not model.stops_early:
        found.merit.copy_(mean_probability_margin(model, found.x_adv, task.y, rng=task.rng.child("judge")))
        found.step.copy_(torch.where(found.merit > 0, steps, -1))
        return found
    if model.proposes:
        # the highest loss was found in low precision: full precision may call that point fooled
        rng = task.rng.child("best").select(state.owner)
        state = state._replace(x_adv=state.best)
        logits = model.logits(state.best, rng=rng)
        state = _without(state, _fooled(task, state, logits, task.rules.eps, rng, exact=True), found, steps)
    value, rows = _best_walk(state.best_value, len(state.owner) // task.walks)
    owner = state.owner[rows]
    found.x_adv[owner] = state.best[rows]
    found.merit[owner] = value
    return found
