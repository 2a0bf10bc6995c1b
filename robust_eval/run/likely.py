"""What an attack is likely to cost: by how many images are right, and how many of those withstand a quick attack.

The quick attack is PGD of 5 to 40 steps in the same ball, as the time allows, on the first images of the run, 32 at
most. Who withstands it is taken to resist to the end; who falls costs as many passes as falling early does; who is
wrong from the start, nothing. An attack that does not stop where an image falls costs its bound for each image that is
right: one that is carried over to a defense, or that looks for the smallest perturbation, unless it says what part of
its bound it usually takes.

Measured with four small networks on 64 digits, what was likely over what was taken, a backward pass counted as two
forward ones: PGD 0.76 to 1.5, Auto-PGD 1.1 to 1.6, DeepFool 0.77 to 1.4, AutoAttack 1.4, 1.4, 2.1 and 22, the last
where one of 32 images withstood PGD and none AutoAttack. Where hardly anybody stands, it is a guess.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from robust_eval.attacks.pgd import PGD
from robust_eval.errors import NoGradientError
from robust_eval.evaluation.prepared import Prepared
from robust_eval.identity import content_key
from robust_eval.methods import Attack, Passes
from robust_eval.registry import build
from robust_eval.rng import Rng, seeded
from robust_eval.threat import Bound, Threat, threat_text

__all__ = ["Look", "Looks", "likely"]

IMAGES = 32
STEPS, MOST = 5, 40
"""Steps of the quick attack, at least and at most."""
FEWEST = 8
"""Images below which a share says nothing."""
EARLY = Passes(4, 2)
"""What an image costs that falls early."""


class Look(NamedTuple):
    """What a quick attack has found."""

    model: str
    threat: str
    images: int
    right: int
    standing: int
    """Of those that are right."""


def likely(prepared: Prepared, bound: Passes, look: Look) -> Passes:
    """Return the passes that an attack on all images is likely to cost."""
    cell = prepared.cell
    attack = cell.perturbation
    assert isinstance(attack, Attack)
    stops = cell.access == "none" and not attack.minimal_norm and not cell.stochastic and attack.gradients
    right, standing = look.right / look.images, look.standing / look.images
    if not stops:
        part = right * (attack.usual_share if cell.access == "none" else 1.0)
        return Passes(round(bound.forwards * part), round(bound.backwards * part))
    n, fallen = len(cell.data.examples), right - standing
    return Passes(
        round(bound.forwards * standing + fallen * min(EARLY.forwards * n, bound.forwards)),
        round(bound.backwards * standing + fallen * min(EARLY.backwards * n, bound.backwards)),
    )


class Looks:
    """Makes the quick attacks: one for each model and ball, until the time is over."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._known: dict[str, Look | None] = {}

    @property
    def found(self) -> tuple[Look, ...]:
        """Those that were made."""
        return tuple(look for look in self._known.values() if look is not None)

    def at(self, prepared: Prepared, gradient: float) -> Look | None:
        """Return how the undefended model fares in the ball of a cell's attack, at these seconds a gradient.

        ``None`` where the ball is none of the quick attack's, the weights are not known yet, or it would take too long.
        """
        cell, attack = prepared.cell, prepared.cell.perturbation
        assert isinstance(attack, Attack)
        threat = attack.threat
        eps = None if not isinstance(threat, Threat) or threat.norm not in PGD.norms else threat.eps
        norm: Bound = threat.norm if isinstance(threat, Threat) and eps is not None else "linf"
        key = content_key({"model": cell.model.identity, "data": cell.data.name, "norm": norm, "eps": eps})
        if key not in self._known:
            left = (self._until - time.perf_counter()) / 2
            # images first, and then steps: few of them find too many that stand
            passes = left / gradient if gradient > 0 else IMAGES * (MOST + 2)
            count = min(IMAGES, int(passes / (STEPS + 2)), len(cell.data.examples))
            steps = min(MOST, max(STEPS, int(passes / max(count, 1)) - 2))
            enough = count >= min(FEWEST, len(cell.data.examples))
            trained = prepared.loaded.weights_sha256 != "untrained"
            able = enough and trained and not cell.model.stochastic
            self._known[key] = _look(prepared, norm, eps, count, steps) if able else None
        return self._known[key]


def _look(prepared: Prepared, norm: Bound, eps: float | None, count: int, steps: int) -> Look | None:
    """Return who of the first images is right and, where there is a radius, how many of them stay so."""
    cell, model = prepared.cell, prepared.base
    x, y = prepared.images(slice(count))
    rng = Rng(0).for_batch(count)
    with model.frozen(), seeded(rng):
        right = int((model.logits(x, rng=rng).argmax(1) == y).sum())
        if eps is None:
            return Look(cell.model.name, "", count, right, right)
        try:
            attack = build(
                "attack", "pgd", {"norm": norm, "eps": eps, "steps": steps, "relative_step_size": 2 / steps}
            )
            x_adv = attack(model, x, y, rng=rng)
        except NoGradientError:
            return None
        standing = int((model.logits(x_adv, rng=rng).argmax(1) == y).sum())
    return Look(cell.model.name, threat_text(norm, eps), count, right, standing)
