"""Attack with an ensemble of parameter-free attacks, each on what the ones before it left (AutoAttack).

Paper: Croce and Hein 2020, arXiv 2003.01690; for l1 Croce and Hein 2021, arXiv 2103.01208. An
example is robust if no attack of the ensemble fools the model.

- ``standard``: :mod:`.apgd` on cross-entropy, then towards 9 targets, FAB towards 9 targets, Square with 5000 queries.
  For l1 cross-entropy has 5 starts and APGD 5 targets.
- ``plus``: besides, APGD on DLR and untargeted FAB, and 5 starts for these two and for cross-entropy.
- ``rand``, for stochastic models: APGD on cross-entropy and on DLR with gradients averaged over 20 draws.
- ``fast`` (ours, not the authors'): the rungs of :mod:`._fast`, for a look at a fraction of the passes. Its numbers are
  named "fast (not the standard)" in every table; ``steps``, ``targets`` and ``queries`` are those of the standard, of
  which it takes a part.

With fewer than four classes the targeted DLR loss is not defined (with two, the untargeted one neither), and the
authors' code stops. Here the ensemble is that of its substitute, which a record names: APGD climbs the margin where it
would climb a DLR loss (``Z_t - Z_y``, the numerator of the ratio), towards each other class, and ``rand`` with two
classes leaves out APGD on DLR. The other members are the same.

All of it as the authors' code (a392200). Deviations: ``plus`` makes the attacks in another order, the costly
untargeted FAB last: which examples resist does not depend on the order. An example leaves each attack at the first
point that fools the model. ``rand`` judges success over 10 fresh draws; the code looks at one, and so counts noise as
success. Where the model does not stop early (it is stochastic, or the points are meant for another) every attack is
made on every example, and the point with the largest margin, over 10 draws, is handed back.

On a linear model it flips exactly the examples whose distance in the norm is below ε (linf, to float32 rounding; l2 and
l1 to 2 %).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch

from robust_eval.attacks._aim import mean_probability_margin
from robust_eval.attacks._fast import Ladder
from robust_eval.attacks._fields import Steps
from robust_eval.attacks.apgd import DLRAPGD, CrossEntropyAPGD, TargetedAPGD
from robust_eval.attacks.fab import FAB, TargetedFAB
from robust_eval.attacks.square import Square
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.losses import LossName
from robust_eval.methods import Attack, Passes
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Ball, Pixels, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["AutoAttack"]

log = logging.getLogger(__name__)

FAST = "fast (not the standard)"
"""What numbers of the version ``fast`` are called."""


class _Member(NamedTuple):
    """An attack of the ensemble."""

    name: str
    attack: Attack
    length: int
    """More than the largest step it can report."""


@register("attack", "auto_attack", version=2)
@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """AutoAttack."""

    masked_as: ClassVar[Layout | None] = "crop"
    norms: ClassVar[tuple[Ball, ...]] = ("linf", "l2", "l1")
    eps: Pixels = 8 / 255
    """Radius, in units of the [0, 1] pixel range."""
    norm: Ball = "linf"
    version: Literal["standard", "plus", "rand", "fast"] = "standard"
    """Which ensemble."""
    steps: Steps = 100
    """Gradient steps of each walk of APGD and FAB."""
    targets: Steps = 9
    """How many of the likeliest other classes APGD and FAB walk to; APGD for l1 to 5 at most in ``standard``."""
    queries: Steps = 5000
    """Forward queries of Square."""
    restarts: Steps | None = None
    """Random starts of the untargeted APGD and FAB; ``None`` takes 1 in ``standard`` (for l1 5) and in ``rand``, 5 in
    ``plus``. ``fast`` has none."""
    draws: Steps = 20
    """Draws a gradient is averaged over in ``rand``."""

    def __post_init__(self) -> None:
        if self.restarts is None:
            many = self.version == "plus" or (self.version == "standard" and self.norm == "l1")
            object.__setattr__(self, "restarts", 5 if many else 1)

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        classes = model.logits(x, rng=rng.child("classes")).shape[1]
        if (words := self._stand_in(classes)) is not None:
            log.warning("auto_attack: %s", words)
        x_adv, step = x.clone(), torch.full_like(y, -1)
        highest = x.new_full((len(x),), -torch.inf)
        everyone = torch.arange(len(x), device=x.device)
        before = 0
        for number, (name, member, length) in enumerate(self._members(classes)):
            rows = (step < 0).nonzero()[:, 0] if model.stops_early else everyone
            if not len(rows):
                break
            stream = rng.child(name).select(rows)
            result = member.run(model, x[rows], y[rows], rng=stream)
            fooled = result.step >= 0
            if model.stops_early:
                # who resists them all hands back the point of the first, which has climbed the usual loss
                better = fooled if number else torch.ones_like(rows, dtype=torch.bool)
            else:
                margin = mean_probability_margin(model, result.x_adv, y, rng=stream.child("judge")).to(
                    x.dtype
                )
                better = margin > highest
                highest[better] = margin[better]
                # of two judgements by chance, both have to say so
                fooled &= margin > 0
            x_adv[rows[better]] = result.x_adv[better]
            step[rows[better]] = torch.where(fooled, result.step + before, -1)[better]
            before += length
        return AttackResult(x_adv, step)

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image that resists every attack; in ``rand`` each is made with so many draws."""
        total = Passes(0, 0)
        for member in self._members(classes):
            one = member.attack.cost(classes)
            assert one is not None
            total = total.and_(one)
        return total.times(self.draws if self.version == "rand" else 1)

    def substitute(self, classes: int) -> str | None:
        """Return what stands in for the standard, and for the losses that are not defined for so few classes; ``None``
        where nothing does.
        """
        words = self._stand_in(classes)
        if self.version != "fast":
            return words
        return FAST if words is None else f"{FAST}, {words.removeprefix('substitute for ')}"

    def _stand_in(self, classes: int) -> str | None:
        if self.version == "rand":
            return None if classes >= 3 else "substitute for 2 classes: without APGD on DLR"
        if classes >= 4:
            return None
        return f"substitute for {classes} classes: margin in place of DLR"

    def _members(self, classes: int = 4) -> list[_Member]:
        """The attacks of this version on a model with so many classes, the cheap ones first."""
        assert self.restarts is not None
        eps, norm, steps, restarts, targets = self.eps, self.norm, self.steps, self.restarts, self.targets
        if self.version == "fast":
            ladder = Ladder(eps=eps, norm=norm, steps=steps, targets=targets, queries=self.queries)
            return [_Member("fast", ladder, ladder.length)]
        draws = self.draws if self.version == "rand" else 1
        # walks follow one another, but for those to the targets: first to the likeliest, then to the others together
        walk = steps + 1
        ce = _Member(
            "apgd_ce",
            CrossEntropyAPGD(eps=eps, norm=norm, steps=steps, restarts=restarts, draws=draws),
            restarts * walk,
        )
        dlr = _Member(
            "apgd_dlr",
            DLRAPGD(eps=eps, norm=norm, steps=steps, restarts=restarts, draws=draws),
            restarts * walk,
        )
        if self.version == "rand":
            return [ce, dlr] if classes >= 3 else [ce]
        few = min(targets, 5) if self.version == "standard" and norm == "l1" else targets
        targeted = [
            _Member("apgd_t", self._targeted(few, classes), 2 * walk),
            _Member("fab_t", TargetedFAB(eps=eps, norm=norm, steps=steps, targets=targets), 2 * walk),
        ]
        square = _Member("square", Square(eps=eps, norm=norm, queries=self.queries), self.queries + 1)
        if self.version == "standard":
            return [ce, *targeted, square]
        fab = FAB(eps=eps, norm=norm, steps=steps, restarts=restarts)
        # towards the one other class is away from the label
        some = [ce, dlr] if classes >= 3 else [ce]
        return [*some, *targeted, square, _Member("fab", fab, restarts * walk)]

    def _targeted(self, targets: int, classes: int) -> TargetedAPGD:
        loss: LossName = "dlr" if classes >= 4 else "margin"
        return TargetedAPGD(eps=self.eps, norm=self.norm, steps=self.steps, targets=targets, loss=loss)
