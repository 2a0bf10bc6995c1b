"""Adversarial examples that are put there, so that it is known that they exist: does an attack find them?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from robust_eval.checks.card import check
from robust_eval.checks.subject import Subject, classes_of
from robust_eval.classifier import Classifier
from robust_eval.findings import Check
from robust_eval.geometry import project, random_start, steepest
from robust_eval.metrics.exact_tests import below
from robust_eval.rng import Rng
from robust_eval.threat import Threat
from robust_eval.types import Images, Labels, Logits, Mask

__all__ = ["planted"]
PLANTED = 16
"""Images that adversarial examples are planted for: below 13 of 16 a share of 95 % is out of the question."""
INNER = 48
"""Random points of the first class: several for each of the logits read."""
CANDIDATES = 4
"""Surface points to choose the planted one from."""
READ = 10
"""Logits read at most: with more of them than random points, any point would stand out."""
STANDS_OUT = 0.75
"""How far out the outermost random point may lie, where the point at the surface is at 1."""
TINY = 1e-12
Free = Bool[Tensor, "n c h w"]
"""The pixels that may change."""


@check(
    about="gradients",
    words="planted adversarial examples that PGD finds",
    unit="share",
    quick=100,
    full=100,
)
def planted(subject: Subject, *, steps: int = 40) -> Check | None:
    """Warn when PGD does not find adversarial examples that were put there.

    The binarisation test of Zimmermann et al. 2022 (arXiv 2206.13991): the classes are replaced by two, told apart by a
    linear readout of the logits made for each image, such that 48 random points are of the first class and one point
    at the surface of the ball is of the second. That point is an adversarial example, known to exist and rare: PGD must
    find one as well. The figure is the share of up to 16 images for which it does; below 95 %, beyond what the exact
    binomial test allows, the check warns.

    Deviations: the readout is of the 10 largest logits instead of the last features, as any model has those; it
    is the linear discriminant (whitened difference of means) with the threshold a tenth of the gap below the
    surface point, not one fitted by descent; the random points are from the ball of half the radius; of 4 surface
    points the one that stands out furthest is taken. Images where none stands out, as where the logits are constant,
    are left out. The readout's own value is ascended: its direction is that of the cross-entropy's gradient, which can
    vanish besides, so saturation is for ``unbounded`` to find. Everything is asked of the model as attacks see it.

    Returns ``None`` for a stochastic model, of which no single point is certainly of one class, and where fewer than 2
    images have a readout. Costs 53 forwards an image, and at most ``steps`` + 1 gradients.
    """
    if subject.seen.stochastic or subject.threat.norm not in ("linf", "l2"):
        return None
    few = slice(PLANTED)
    x, rng = subject.x[few], subject.rng.select(few).child("planted")
    with subject.seen.frozen():
        free = torch.ones_like(x, dtype=torch.bool) if subject.free is None else subject.free[few]
        readout = _plant(subject.seen, x, free, subject.threat, rng)
        rows = readout.exists.nonzero()[:, 0]
        if len(rows) < 2:
            return None
        draws = rng.child("climb").select(rows)
        found = _climbs(subject.seen, x[rows], free[rows], readout, rows, subject.threat, steps, draws)
    return Check(
        "planted",
        "warn" if below(int(found.sum()), len(rows), 0.95) else "ok",
        found.double().mean().item(),
        "PGD misses adversarial examples that were planted: what it does not find on this model says little; "
        "gradients are masked, or the attack needs more steps",
    )


class _Readouts(NamedTuple):
    """For each image a linear function of some of its logits, positive for the second of two classes."""

    read: Int[Tensor, "n r"]
    """The logits that are read."""
    centre: Float[Tensor, "n r"]
    weight: Float[Tensor, "n r"]
    threshold: Float[Tensor, " n"]
    exists: Mask
    """Whether the point at the surface is told apart from those inside."""

    def score(self, logits: Logits, rows: Labels) -> Float[Tensor, " n"]:
        """Return the value of the readouts of these rows for their logits."""
        away = logits.gather(1, self.read[rows]) - self.centre[rows]
        return (away * self.weight[rows]).sum(1) - self.threshold[rows]


def _plant(seen: Classifier, x: Images, free: Free, threat: Threat, rng: Rng) -> _Readouts:
    """Make readouts that tell one point at the surface of the ball from random points of half its radius."""
    read = seen.logits(x, rng=rng).topk(min(READ, classes_of(seen, x, rng)), dim=1).indices

    def features(points: Images) -> Tensor:
        return seen.logits(points, rng=rng).gather(1, read).double()

    assert threat.eps is not None
    inner = torch.stack([features(_inside(x, free, threat, rng.child("inner", i))) for i in range(INNER)], 1)
    outer = torch.stack(
        [features(_surface(x, free, threat, rng.child("outer", i))) for i in range(CANDIDATES)], 1
    )
    centre = inner.mean(1)
    inner, outer = inner - centre[:, None], outer - centre[:, None]
    covariance = inner.mT @ inner / INNER
    # a sum of logits, or those of a rounded model, may not vary at all
    ridge = 1e-3 * covariance.diagonal(dim1=1, dim2=2).mean(1) + TINY
    covariance = covariance + ridge[:, None, None] * torch.eye(read.shape[1]).to(covariance)
    whitened = torch.linalg.solve(covariance, outer.mT).mT
    lengths = (whitened * outer).sum(2)
    chosen = lengths.argmax(1)
    rows = torch.arange(len(x), device=x.device)
    # scaled so that the point at the surface has the value 1
    weight = whitened[rows, chosen] / lengths[rows, chosen, None].clamp(min=TINY)
    highest = (inner * weight[:, None]).sum(2).amax(1)
    exists = (highest < STANDS_OUT) & (lengths[rows, chosen] > TINY)
    threshold = highest + 0.9 * (1 - highest)
    return _Readouts(read, centre.to(x.dtype), weight.to(x.dtype), threshold.to(x.dtype), exists)


def _inside(x: Images, free: Free, threat: Threat, rng: Rng) -> Images:
    assert (threat.norm == "linf" or threat.norm == "l2") and threat.eps is not None
    return torch.where(free, random_start(x, threat.norm, threat.eps / 2, rng), x)


def _surface(x: Images, free: Free, threat: Threat, rng: Rng) -> Images:
    """Return a random point at the surface: all pixels moved by the radius (linf), or a random direction (l2)."""
    assert (threat.norm == "linf" or threat.norm == "l2") and threat.eps is not None
    drawn = rng.normal(*x.shape[1:], device=x.device).to(x.dtype)
    direction = steepest(drawn * free, threat.norm)
    return (x + threat.eps * direction).clamp(0, 1)


def _climbs(
    seen: Classifier,
    x: Images,
    free: Free,
    readout: _Readouts,
    rows: Labels,
    threat: Threat,
    steps: int,
    rng: Rng,
) -> Mask:
    """Return for which of the images, whose readouts are those of ``rows``, PGD comes to a positive value."""
    assert (threat.norm == "linf" or threat.norm == "l2") and threat.eps is not None
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    active, clean = torch.arange(len(x), device=x.device), x
    point = _inside(x, free, threat, rng.child("start"))
    for step in range(steps + 1):
        draws = rng.select(active).child("step", step)
        logits, gradient = seen.input_gradient(point, rows[active], readout.score, rng=draws)
        if seen.proposes:
            logits = seen.logits(point, rng=draws)
        reached = readout.score(logits, rows[active]) > 0
        found[active[reached]] = True
        active, clean, free, point, gradient = (
            part[~reached] for part in (active, clean, free, point, gradient)
        )
        if not len(active):
            break
        moved = point + 2.5 / steps * threat.eps * steepest(gradient * free, threat.norm)
        point = project(moved, clean, threat.norm, threat.eps)
    return found
