"""Small attacks whose outcome is known beforehand: where it is another, attacks do not see what is there.

Each takes a :class:`Subject`; given a :class:`Probe`, which is one that remembers, they share the attacks they have in
common. Success is measured again by ``model.logits`` in float32; for a stochastic model an image counts as broken when
at most 2 of 10 fresh draws are right, as resisting when at least 8 are, and as neither in between. Comparisons are
exact tests at 1 % (:mod:`robust_eval.metrics.exact_tests`), so that a few images lead to "ok", not to a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.checks.card import check
from robust_eval.checks.subject import Subject, classes_of
from robust_eval.classifier import misclassified
from robust_eval.findings import Check
from robust_eval.methods.held import run_within
from robust_eval.metrics.exact_tests import above, more_often
from robust_eval.registry import build
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Mask

__all__ = [
    "Probe",
    "converged",
    "falls_with_eps",
    "iterative_beats_single_step",
    "unbounded",
    "white_box_beats_noise",
    "white_box_beats_square",
]

DRAWS = 10
"""Fresh draws by which a point is judged for a stochastic model."""
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
STRAY = 0.01
"""Share of images that one run of a sound attack may miss by bad luck."""
GAIN = 0.002
"""Share that Square may add to a sound white-box attack (AutoAttack's flag: 0.2 points)."""
INSISTS: Mapping[str, Any] = {"steps": 40, "restarts": 5}
"""How PGD tries again on images that Square alone has broken."""


class Probe(Subject):
    """A subject that remembers what was attacked already."""

    @cached_property
    def _known(self) -> dict[object, Float[Tensor, " n"]]:
        return {}

    @cached_property
    def broken_at(self) -> Float[Tensor, " n"]:
        """Length of the shortest perturbation in the subject's norm by which an attack broke each image so far.

        Infinite where none did.
        """
        return torch.full((len(self.x),), torch.inf, dtype=torch.float64)

    @classmethod
    def of(cls, subject: Subject) -> Probe:
        """Return the subject itself if it is a probe, else a new one."""
        return subject if isinstance(subject, cls) else cls(*subject)

    def attacked(
        self, name: str, params: Mapping[str, Any], *, eps: float | None = None, norm: str | None = None
    ) -> Float[Tensor, " n"]:
        """Return the share of draws in which each image is right after this registered attack.

        In the subject's ball or another. The attack sees ``seen`` and is judged by ``model``.
        """
        ball = {"norm": norm or self.threat.norm, "eps": self.threat.eps if eps is None else eps}
        key = (name, *sorted((ball | dict(params)).items()))
        if key not in self._known:
            with self.seen.frozen(), self.model.frozen():
                attack, rng = build("attack", name, ball | dict(params)), self.rng.child(name)
                if self.free is None:
                    x_adv = attack.run(self.seen, self.x, self.y, rng=rng).x_adv
                else:
                    x_adv = run_within(attack, self.seen, self.x, self.y, self.free, rng=rng).x_adv
                share = self._known[key] = self.share(x_adv, rng.child("score"))
            if ball["norm"] == self.threat.norm:
                length = self.threat.distance(self.x, x_adv).cpu().double()
                self._note(broken(share).nonzero()[:, 0], length[broken(share)])
        return self._known[key]

    def after(
        self,
        first: Float[Tensor, " n"],
        name: str,
        params: Mapping[str, Any],
        *,
        starts: str | None = None,
    ) -> Float[Tensor, " n"]:
        """As :meth:`attacked`, of those only that resisted ``first``; the others keep their share.

        ``starts`` names draws of their own, where those of the same attack have failed already.
        """
        left = resisted(first).nonzero()[:, 0]
        share = first.clone()
        if len(left):
            there, rng = left.to(self.x.device), self.rng if starts is None else self.rng.child(starts)
            free = None if self.free is None else self.free[there]
            x, y = self.x[there], self.y[there]
            rest = Probe(self.model, self.seen, x, y, self.threat, rng.select(left), free)
            share[left] = rest.attacked(name, params)
            self._note(left, rest.broken_at)
        return share

    def _note(self, rows: Labels, length: Float[Tensor, " m"]) -> None:
        """Remember perturbations of this length that broke these images."""
        self.broken_at[rows] = torch.minimum(self.broken_at[rows], length)

    def share(self, x: Images, rng: Rng) -> Float[Tensor, " n"]:
        """Return the share of draws in which each image is right: 0 or 1 for a deterministic model."""
        right = [
            ~misclassified(self.model.logits(x, rng=rng.child(draw)), self.y).cpu()
            for draw in range(self.model.calls(DRAWS))
        ]
        return torch.stack(right).double().mean(0)


def broken(share: Float[Tensor, " n"]) -> Mask:
    """Return which images an attack broke: at most 2 draws of 10 are right."""
    return share <= 0.2


def resisted(share: Float[Tensor, " n"]) -> Mask:
    """Return which images resisted: at least 8 draws of 10 are right."""
    return share >= 0.8


def _only(winner: Float[Tensor, " n"], loser: Float[Tensor, " n"]) -> int:
    """Return how many images the first attack broke while they resisted the second."""
    return int((broken(winner) & resisted(loser)).sum())


def _pgd(probe: Probe, steps: int) -> Float[Tensor, " n"]:
    return probe.attacked("pgd", {"steps": steps})


@check(
    about="gradients",
    words="accuracy left where every image is allowed",
    unit="share",
    any_norm=True,
    masked=True,
    quick=60,
    full=60,
)
def unbounded(subject: Subject) -> Check | None:
    """Fail when an attack that may change every pixel at will does not bring accuracy down to chance.

    BIM (PGD from the image itself: a random start in so large a ball is noise that breaks any model) with linf
    radius 1, 20 steps of 1/8. The figure is the accuracy it leaves. It fails where that is more than 1 / classes beyond
    what the exact binomial test allows, as ART's security curve has it; the idea is that of Athalye, Carlini and Wagner
    2018 (arXiv 1802.00420, section 3.1).

    ``None`` where some pixels may change only: nobody knows what those can do at will.

    Costs at most 20 gradients and 15 forwards an image; few steps on a model that does not mask its gradients.
    """
    if subject.free is not None:
        return None
    probe = Probe.of(subject)
    params = {"steps": 20, "relative_step_size": 0.125}
    share = probe.attacked("bim", params, eps=1.0, norm="linf")
    classes = classes_of(probe.model, probe.x, probe.rng)
    return Check(
        "unbounded",
        "fail" if above(round(share.sum().item()), len(share), 1 / classes) else "ok",
        share.mean().item(),
        "attacks cannot find what certainly exists, an error among all images: gradients are masked; mend them "
        "(access adaptive) or use attacks without gradients (square)",
    )


@check(
    about="gradients",
    words="largest rise of accuracy with the radius",
    unit="share",
    masked=True,
    full=110,
)
def falls_with_eps(subject: Subject) -> Check:
    """Fail when accuracy under PGD rises with the radius.

    A larger ball holds the smaller one. PGD-10 at 1/4, 1/2, 1, 2 and 4 times the radius; for each pair of radii the
    images broken only at the smaller one against those broken only at the larger (exact McNemar test, 1 % shared by
    all pairs). The figure is the largest rise of accuracy from one radius to a larger one.

    Costs at most 50 gradients and 50 forwards an image, a fifth of it shared with other checks.
    """
    probe = Probe.of(subject)
    assert probe.threat.eps is not None
    largest = 1.0 if probe.threat.norm == "linf" else float("inf")
    radii = sorted({min(factor * probe.threat.eps, largest) for factor in FACTORS})
    shares = [probe.attacked("pgd", {"steps": 10}, eps=eps) for eps in radii]
    pairs = [(shares[i], shares[j]) for j in range(len(radii)) for i in range(j)]
    rises = [more_often(_only(a, b), _only(b, a), comparisons=len(pairs)) for a, b in pairs]
    return Check(
        "falls_with_eps",
        "fail" if any(rises) else "ok",
        max([0.0, *((b - a).mean().item() for a, b in pairs)]),
        "accuracy under attack rises with the radius, which it cannot: the attack loses its way in the larger ball; "
        "gradients are masked or the steps too long",
    )


@check(
    about="gradients",
    words="images broken by FGSM but not by PGD",
    unit="share",
    suspicious=True,
    quick=70,
    full=70,
)
def iterative_beats_single_step(subject: Subject) -> Check:
    """Warn when one step breaks images that ten do not.

    Images broken only by FGSM against images broken only by PGD-10 (exact McNemar test, one-sided, 1 %). The figure is
    the share broken only by FGSM. After Carlini et al. 2019 (arXiv 1902.06705).

    Costs 1 gradient and 1 forward an image beyond PGD-10, which is shared with other checks.
    """
    probe = Probe.of(subject)
    once, often = probe.attacked("fgsm", {}), _pgd(probe, 10)
    only = _only(once, often)
    return Check(
        "iterative_beats_single_step",
        "warn" if more_often(only, _only(often, once)) else "ok",
        only / len(probe.x),
        "one step of FGSM breaks what ten steps of PGD do not: the gradient is good only at the image itself; "
        "gradients are masked",
    )


@check(
    about="gradients",
    words="images broken by noise but not by PGD",
    unit="share",
    masked=True,
    quick=80,
    full=80,
)
def white_box_beats_noise(subject: Subject) -> Check:
    """Fail when random points of the ball break images that PGD does not.

    20 uniform draws in the ball against PGD-10. The figure is the share of images broken only by noise; it fails where
    that is more than 1 % beyond what the exact binomial test allows.

    Costs 20 forwards for each image that resists PGD-10, which is shared with other checks.
    """
    probe = Probe.of(subject)
    climbed = _pgd(probe, 10)
    only = _only(probe.after(climbed, "noise", {"draws": 20}), climbed)
    return Check(
        "white_box_beats_noise",
        "fail" if above(only, len(probe.x), STRAY) else "ok",
        only / len(probe.x),
        "random noise breaks images that PGD does not: its gradients are worse than none; gradients are masked",
    )


@check(
    about="gradients",
    words="images broken by Square but not by PGD",
    unit="share",
    masked=True,
    quick=90,
    full=130,
    full_params={"queries": 1000, "steps": 20, "restarts": 5},
)
def white_box_beats_square(
    subject: Subject, *, queries: int = 100, steps: int = 10, restarts: int = 1
) -> Check:
    """Warn when Square, which sees no gradients, breaks images that PGD does not; fail when it breaks many.

    Square has so many ``queries`` on the images that resist PGD of so many ``steps`` and ``restarts``. Those that it
    breaks are attacked again, with gradients, before anything is said: PGD of 40 steps from 5 starts up the
    cross-entropy, then up the margin. It fails where Square alone broke more than 5 points of what the first of them
    leaves, beyond what the exact binomial test allows, and warns where it broke more than 0.2 points (AutoAttack's
    flag) of what both leave, in the same sense. The figure is the share of images broken only by Square: after both, or
    after the first where it fails.

    Measured with 1000 queries on 24 honest models and radii for digits (32 images each): against 20 steps from a single
    start 4 of them were warned about, 1 to 4 images each; 5 starts broke all of these as well.

    Costs ``queries`` forwards for each image that resists, ``steps · restarts`` gradients where these are several, and
    at most 400 for each image that Square alone breaks.
    """
    probe = Probe.of(subject)
    climbed = _pgd(probe, steps)
    if restarts > 1:
        climbed = probe.after(climbed, "pgd", {"steps": steps, "restarts": restarts})
    searched = probe.after(climbed, "square", {"queries": queries})
    n = len(probe.x)
    # where Square broke nothing there is nothing to insist on
    disputed = torch.where(broken(searched), climbed, 0.0)
    disputed = probe.after(disputed, "pgd", INSISTS, starts="insists")
    many = int(resisted(disputed).sum())
    if above(many, n, 0.05):
        return _square("fail", many / n)
    disputed = probe.after(disputed, "pgd", {**INSISTS, "loss": "margin"}, starts="margin")
    only = int(resisted(disputed).sum())
    return _square("warn" if above(only, n, GAIN) else "ok", only / n)


def _square(verdict: Literal["ok", "warn", "fail"], figure: float) -> Check:
    return Check(
        "white_box_beats_square",
        verdict,
        figure,
        "a search without gradients breaks images that PGD does not: gradients are masked, or PGD is too weak; "
        "report the worst case over both",
    )


@check(
    about="gradients",
    words="images broken only with twice the steps",
    unit="share",
    full=120,
)
def converged(subject: Subject, *, steps: int = 20) -> Check:
    """Warn when twice the steps break more images.

    PGD with twice as many ``steps`` on the images that resist it with ``steps``. The figure is the share newly broken;
    it warns where that is more than one image, and more than 1 % beyond what the exact binomial test allows.

    Costs ``2 steps`` gradients for each image that resists PGD with ``steps``, which is shared with other checks.
    """
    probe = Probe.of(subject)
    before = _pgd(probe, steps)
    newly = _only(probe.after(before, "pgd", {"steps": 2 * steps}), before)
    return Check(
        "converged",
        "warn" if newly > 1 and above(newly, len(probe.x), STRAY) else "ok",
        newly / len(probe.x),
        f"PGD breaks more images with {2 * steps} steps than with {steps}: raise steps, or use apgd_ce",
    )
