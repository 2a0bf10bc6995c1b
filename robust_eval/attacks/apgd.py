"""Climb a loss with steps that are halved as the climb demands (Auto-PGD): on cross-entropy, DLR or targeted DLR.

Paper: Croce and Hein 2020, arXiv 2003.01690, algorithm 1. With ``z = P(x_k + η s(∇f(x_k)))`` the next point is
``x_{k+1} = P(x_k + α (z − x_k) + (1 − α)(x_k − x_{k−1}))``, α = 0.75 (1 at first), with ``P`` back into ball and box
and ``s`` the steepest direction. η starts at 2ε. At checkpoints it is halved, and the climb goes on from the best point
so far, where fewer than a share ρ of the steps since the last one raised the loss, or where neither the best loss nor
η has moved since then. Checkpoints come after 22 % of the steps, then at distances that shrink by 3 % down to 6 %.

For l1: Croce and Hein 2021, arXiv 2103.01208: ``x_{k+1} = P(x_k + η s(∇f))`` with the exact projection
onto ball and box and ``s`` spread over the pixels with the largest slopes; how many follows, every 4 % of the steps,
from how many the best point changes (a 1.5th of them). η starts at ε; it is divided by 1.5, down to ε/10, unless the
best point has become sparser by 5 %, when η is ε again and the climb goes on from the best point. 30 % of the steps
are taken in the ball of 3ε, 30 % in that of 2ε and the rest in that of ε.

Defaults: 100 steps, 1 start, ρ = 0.75, 9 targets, as the authors' code (a392200). Deviations:

- An example leaves at the first point that fools the model, with all its walks; the code takes every step. The
  likeliest target is walked to first and the others side by side, since few examples are left by then.
- The first step is compared with the loss at the start, as in the paper; the code compares it with zero, which matters
  for DLR in the first window only. Starts are those of PGD, uniform in the ball; the code's lie on its border.
- The loss of several draws is their mean; the code takes that of the last.
- l1: a 1.5th is rounded down; rounded up, two pixels never become one. A point inside ε counts in the wider balls too.
- An example that resists hands back the point with the highest loss; the code the clean image. Where the model does not
  stop early (it is stochastic, or the points are meant for another) all walks are taken in full. Of each the point with
  the largest margin is kept, since DLR may fall where the margin grows, and of these the one with the largest margin of
  the probabilities averaged over 10 draws.

On a linear model with two classes it flips exactly the examples whose margin in the dual norm is below ε (linf, to
float32 rounding; l2 and l1 to 2 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.attacks._aim import JUDGING_DRAWS, Aim
from robust_eval.attacks._fields import Steps
from robust_eval.attacks._l1 import project_l1, random_start_l1, sparse_direction
from robust_eval.attacks._losses import LossName, cross_entropy, dlr, loss_for, margin, require_classes
from robust_eval.attacks._projections import project, random_start, steepest
from robust_eval.classifier import Classifier, Loss
from robust_eval.errors import ConfigError
from robust_eval.methods import Attack
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import AttackResult, Images, Labels, Logits, Mask, Norm, Pixels, Threat

__all__ = ["APGD", "DLRAPGD", "CrossEntropyAPGD", "TargetedAPGD", "mean_probability_margin"]

MOMENTUM = 0.75
"""Share α of the new step in a move; the rest repeats the move before."""


class Plan(NamedTuple):
    """What is climbed, and in which order."""

    loss: Loss
    targets: Int[Tensor, "n targets"] | None = None
    """The classes to walk to, likeliest first; ``None`` walks away from the label."""
    rounds: tuple[slice, ...] = (slice(0, 1),)
    """Which targets are walked to side by side, one group after another."""


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """What the three share: the walk, its restarts, and the choice among the points it met."""

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    min_classes: ClassVar[int] = 2
    """Classes a model must have for the loss to be defined."""

    eps: Pixels = 8 / 255
    """Radius, in units of the [0, 1] pixel range."""
    norm: Norm = "linf"
    steps: Steps = 100
    """Gradient steps of one walk."""
    restarts: Steps = 1
    """Random starts; a further one is spent on the examples that still resist."""
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share ρ of the steps that must raise the loss for the step size to stay, in (0, 1] (linf and l2)."""
    draws: Steps = 1
    """Draws of a stochastic model that a gradient is averaged over; a deterministic one is asked once."""

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        plan = self._plan(model, x, y, rng.child("plan"))
        kept = _Found.none(x, y)
        rounds = [(restart, group) for restart in range(self.restarts) for group in plan.rounds]
        for number, (restart, group) in enumerate(rounds):
            # who resists; where nobody leaves early, everyone
            rows = ((kept.step < 0) | (not model.stops_early)).nonzero()[:, 0]
            width = group.stop - group.start
            # no more rows at once than a single walk of everyone has, nor fewer than fill the model's batch
            size = max(1, max(len(x), model.batch_size) // width)
            for part in torch.split(rows, size) if len(rows) else ():
                task = _Task(
                    self,
                    model,
                    plan.loss,
                    x[part],
                    y[part],
                    None if plan.targets is None else plan.targets[part, group],
                    rng.child("restart", restart, "from", group.start).select(part),
                )
                found = _walk(task)
                found.step[found.step >= 0] += number * (self.steps + 1)
                kept.take(part, found)
        return AttackResult(kept.x_adv, kept.step)

    def _plan(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Plan:
        raise NotImplementedError


@register("attack", "apgd_ce")
@dataclass(frozen=True, kw_only=True)
class CrossEntropyAPGD(APGD):
    """Auto-PGD on the cross-entropy."""

    def _plan(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Plan:
        return Plan(cross_entropy)


@register("attack", "apgd_dlr")
@dataclass(frozen=True, kw_only=True)
class DLRAPGD(APGD):
    """Auto-PGD on the difference of logits ratio, which does not vanish where logits are large."""

    min_classes: ClassVar[int] = 3

    def _plan(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Plan:
        def ratio(logits: Logits, y: Labels) -> Float[Tensor, " n"]:
            if logits.shape[1] < self.min_classes:
                raise ConfigError(
                    f"attack 'apgd_dlr': expected a model with at least {self.min_classes} classes, got "
                    f"{logits.shape[1]}; its loss looks at the third largest logit: use apgd_ce"
                )
            return dlr(logits, y)

        return Plan(ratio)


@register("attack", "apgd_t")
@dataclass(frozen=True, kw_only=True)
class TargetedAPGD(APGD):
    """Auto-PGD towards each of the likeliest other classes on the targeted difference of logits ratio."""

    min_classes: ClassVar[int] = 4

    targets: Steps = 9
    """How many of the likeliest other classes are walked to."""
    loss: LossName = "dlr"
    """What is climbed: the targeted ratio ``dlr``; ``margin`` or ``ce`` of the target for models with two or three
    classes."""

    def _plan(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Plan:
        logits = _log_probability(model, x, rng, self.draws)
        require_classes(self.loss, logits.shape[1], targeted=True)
        count = min(self.targets, logits.shape[1] - 1)
        others = logits.scatter(1, y[:, None], -torch.inf).topk(count, dim=1).indices
        # few are left after the likeliest target: the others share the model's batches
        rounds = (slice(0, 1), slice(1, count)) if count > 1 else (slice(0, 1),)
        return Plan(loss_for(self.loss, targeted=True), others, rounds)


def mean_probability_margin(model: Classifier, x: Images, y: Labels, *, rng: Rng) -> Float[Tensor, " n"]:
    """Return the margin by which another class beats the label at ``x``, at full precision.

    Of a stochastic model's probabilities averaged over several draws, as :meth:`Aim.holds` judges it.
    """
    value = margin(_log_probability(model, x, rng, JUDGING_DRAWS), y)
    # an output with NaN predicts nothing
    return torch.where(value.isnan(), torch.inf, value)


def _log_probability(model: Classifier, x: Images, rng: Rng, draws: int) -> Logits:
    """Return logits; for a stochastic model the log of its mean probability, up to a constant."""
    if not model.stochastic:
        return model.logits(x, rng=rng)
    each = [model.logits(x, rng=rng.child("draw", draw)).log_softmax(1) for draw in range(draws)]
    return torch.stack(each).logsumexp(0)


class _Task(NamedTuple):
    """One walk of some examples, to one class or to several side by side."""

    method: APGD
    model: Classifier
    loss: Loss
    x: Images
    y: Labels
    targets: Int[Tensor, "n targets"] | None
    rng: Rng

    @property
    def walks(self) -> int:
        """How many walks an example makes side by side."""
        return 1 if self.targets is None else self.targets.shape[1]


class _Found(NamedTuple):
    """The point to hand back for each example, the step at which it fooled the model, and how good it is."""

    x_adv: Images
    step: Int[Tensor, " n"]
    merit: Float[Tensor, " n"]

    @classmethod
    def none(cls, x: Images, y: Labels) -> _Found:
        return cls(x.clone(), torch.full_like(y, -1), x.new_full((len(x),), -torch.inf))

    def take(self, rows: Int[Tensor, " m"], found: _Found) -> None:
        """Write what was found for some rows where it is better than what there is."""
        better = found.merit > self.merit[rows]
        for mine, new in zip(self, found, strict=True):
            mine[rows[better]] = new[better]


class _State(NamedTuple):
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
    def at(cls, point: Images, size: float, x: Images, owner: Tensor, asked: Tensor) -> _State:
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

    def select(self, which: Mask) -> _State:
        return _State(*(part[which] for part in self))


def _walk(task: _Task) -> _Found:
    """Walk once from a random start towards each class of the task; an example leaves with all its walks."""
    method, x = task.method, task.x
    found = _Found.none(x, task.y)
    # one class after the other: an example's first row is that of its likeliest
    owner = torch.arange(len(x), device=x.device).repeat(task.walks)
    asked = task.y if task.targets is None else torch.stack([task.y[owner], task.targets.T.flatten()], 1)
    phases = _phases(method.eps, method.norm, method.steps)
    widest = phases[0][0]
    starts = [_start(x, method.norm, widest, task.rng.child("start", walk)) for walk in range(task.walks)]
    state = _State.at(torch.cat(starts), _first_size(method.norm, widest), x[owner], owner, asked)
    taken = 0
    for radius, steps in phases:
        if taken:
            point, size = project_l1(state.best, state.x, radius), _first_size(method.norm, radius)
            state = _State.at(point, size, state.x, state.owner, state.asked)
        state = _climb(task, state, found, radius, steps, taken)
        taken += steps
        if not len(state.owner):
            return found
    return _resisting(task, state, found)


def _phases(eps: float, norm: Norm, steps: int) -> list[tuple[float, int]]:
    """Radius and steps of each part of a walk; where steps are too few there is only the ball itself."""
    wide = math.ceil(0.3 * steps)
    if norm != "l1" or steps <= 2 * wide:
        return [(eps, steps)]
    return [(3 * eps, wide), (2 * eps, wide), (eps, steps - 2 * wide)]


def _start(x: Images, norm: Norm, radius: float, rng: Rng) -> Images:
    return random_start_l1(x, radius, rng) if norm == "l1" else random_start(x, norm, radius, rng)


def _first_size(norm: Norm, radius: float) -> float:
    return radius if norm == "l1" else 2 * radius


def _climb(task: _Task, state: _State, found: _Found, radius: float, steps: int, taken: int) -> _State:
    """Take ``steps`` steps in the ball of ``radius``; write whom they fool into ``found`` and go on without them."""
    method, last = task.method, steps
    window = max(int((0.04 if method.norm == "l1" else 0.22) * steps), 1)
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
        elif radius == method.eps:
            _keep_largest_margin(state, found)
        state = _noted(state)
        if t == last:
            break
        if t == checkpoint and method.norm == "l1":
            state = _sparsity_adapted(state, radius)
            checkpoint += window
        elif t == checkpoint:
            state = _size_adapted(state, method.rho * window)
            window = max(window - shrinking, shortest)
            checkpoint += window
        x_adv = _moved(state, method.norm, radius, first=t == 0)
        state = state._replace(x_adv=x_adv, previous=state.x_adv)
    return state


def _asked(task: _Task, state: _State, rng: Rng, *, gradient: bool) -> tuple[Logits, _State]:
    """Return the logits of one draw, and the state with the loss and its gradient summed over the draws."""
    model, value, slope = task.model, torch.zeros_like(state.value), None
    ahead = torch.zeros_like(value)
    for draw in range(task.method.draws if model.stochastic else 1):
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


def _fooled(task: _Task, state: _State, logits: Logits, radius: float, rng: Rng, *, exact: bool) -> Mask:
    """Return where a point inside the ball fools the model; logits that are not ``exact`` only propose."""
    aim = Aim(task.y[state.owner])
    fooled = aim.reached(logits)
    if radius > task.method.eps:
        fooled &= (state.x_adv - state.x).flatten(1).abs().sum(1) <= task.method.eps
    if task.model.proposes and not exact:
        rows = fooled.nonzero()[:, 0]
        if len(rows):
            fooled[rows] = aim.select(rows).holds(task.model, state.x_adv[rows], rng=rng.select(rows))
    return fooled


def _without(state: _State, fooled: Mask, found: _Found, step: int) -> _State:
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


def _keep_largest_margin(state: _State, found: _Found) -> None:
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


def _noted(state: _State) -> _State:
    """Keep the point if its loss is the highest so far."""
    higher = state.value > state.best_value
    here = higher.view(-1, 1, 1, 1)
    return state._replace(
        best=torch.where(here, state.x_adv, state.best),
        best_gradient=torch.where(here, state.gradient, state.best_gradient),
        best_value=torch.where(higher, state.value, state.best_value),
    )


def _size_adapted(state: _State, enough: float) -> _State:
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


def _sparsity_adapted(state: _State, radius: float) -> _State:
    """Spread the steps over as many pixels as the best point needs; start anew from it where it got sparser."""
    changed = _changed(state.best, state.x)
    sparser = changed < 0.95 * state.changed
    state = _back_to_best(state, sparser)
    shorter = (state.size / 1.5).clamp(min=radius / 10)
    size = torch.where(sparser.view(-1, 1, 1, 1), torch.full_like(shorter, radius), shorter)
    return state._replace(size=size, changed=changed)


def _back_to_best(state: _State, which: Mask) -> _State:
    here = which.view(-1, 1, 1, 1)
    return state._replace(
        x_adv=torch.where(here, state.best, state.x_adv),
        gradient=torch.where(here, state.best_gradient, state.gradient),
    )


def _changed(point: Images, x: Images) -> Int[Tensor, " n"]:
    return (point != x).flatten(1).sum(1)


def _moved(state: _State, norm: Norm, radius: float, *, first: bool) -> Images:
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


def _projection(x: Images, norm: Norm, radius: float) -> Callable[[Images], Images]:
    """Return what brings points back into ball and box; it may write on them."""
    if norm != "linf":
        return lambda point: project(point, x, norm, radius)
    # as project does it, but the bounds are made once for two points
    low, high = (x - radius).clamp_(min=0), (x + radius).clamp_(max=1)
    return lambda point: point.clamp_(low, high)


def _resisting(task: _Task, state: _State, found: _Found) -> _Found:
    """Write down the best point of each example that is left, of all the classes it was walked to."""
    model, steps = task.model, task.method.steps
    if not model.stops_early:
        found.merit.copy_(mean_probability_margin(model, found.x_adv, task.y, rng=task.rng.child("judge")))
        found.step.copy_(torch.where(found.merit > 0, steps, -1))
        return found
    if model.proposes:
        # the highest loss was found in low precision: full precision may call that point fooled
        rng = task.rng.child("best").select(state.owner)
        state = state._replace(x_adv=state.best)
        logits = model.logits(state.best, rng=rng)
        state = _without(state, _fooled(task, state, logits, task.method.eps, rng, exact=True), found, steps)
    value, rows = _best_walk(state.best_value, len(state.owner) // task.walks)
    owner = state.owner[rows]
    found.x_adv[owner] = state.best[rows]
    found.merit[owner] = value
    return found
