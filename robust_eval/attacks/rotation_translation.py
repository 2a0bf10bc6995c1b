"""Turn and shift the image in every way of a grid and keep the first that fools the model: the worst of the grid.

Paper: Engstrom et al. 2019, "Exploring the landscape of spatial robustness", arXiv 1712.02779, section 3. Each
candidate is the clean image turned about its centre by an angle and then moved right and down, interpolated bilinearly,
with black where nothing is left. Steps along a gradient are much weaker here, the authors find: the loss is full of
local maxima.

Defaults, the paper's: 31 angles within ±30 degrees and 5 shifts within ±10 % of the side in each direction, 775
candidates; 10 % is rounded to whole pixels, 3 at a side of 28 or 32 (the paper's too) and 22 at 224 (there 24). The
strongest come first, since an image leaves at the first that fools the model. Where none does, the candidate with the
largest margin against the label comes back, or the clean image if that has no smaller one. Where the model does not
stop early, all candidates are tried; a stochastic model judges each by one draw of its own.

No norm measures this threat: turned by a few degrees, an image is far away in all of them. It is stated as ``spatial``
with the largest angle, beside which reports put the largest shift, and is never compared with a radius or counted into
the worst case of a norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field

from robust_eval.attacks._aim import Aim
from robust_eval.attacks._fields import Steps
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.corruptions.deformation import Interpolation, Matrix, warped
from robust_eval.fields import Real
from robust_eval.losses import margin
from robust_eval.methods import FEW, Attack, Passes
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Bound, Spatial
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["RotationTranslation"]


class Candidate(NamedTuple):
    """One way to turn and shift an image."""

    angle: float
    """In degrees, clockwise."""
    right: float
    """In pixels."""
    down: float


@register("attack", "rotation_translation")
@dataclass(frozen=True, kw_only=True)
class RotationTranslation(Attack):
    """The worst of a grid of rotations and translations."""

    masked_as: ClassVar[Layout | None] = None
    norms: ClassVar[tuple[Bound, ...]] = ("spatial",)
    gradients: ClassVar[bool] = False
    own_units: ClassVar[bool] = True
    sweeps: ClassVar[tuple[str, ...]] = ("degrees",)

    degrees: Annotated[Real, Field(ge=0, le=180)] = 30.0
    """Largest angle in either direction, in degrees."""
    translation: Annotated[Real, Field(ge=0, lt=1)] = 0.1
    """Largest shift in each direction, as a fraction of the side; rounded to whole pixels."""
    angles: Steps = 31
    """Angles of the grid, evenly spread over ±degrees; a single one is 0."""
    shifts: Steps = 5
    """Shifts of the grid in each direction, evenly spread; a single one is 0."""
    interpolation: Interpolation = "bilinear"
    """Whether a new pixel is a bilinear mean of four or the nearest old one."""

    @property
    def threat(self) -> Spatial:
        """Every turn and shift up to the largest; the grid is a sample of them."""
        return Spatial(self.degrees, self.translation)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        x_adv, step = x.clone(), torch.full_like(y, -1)
        # those still in the game, packed; of each the candidate with the largest margin
        active, clean, aim = torch.arange(len(x), device=x.device), x, Aim(y)
        best, first = x, torch.full_like(y, -1)
        largest = margin(model.proposal(x, rng=rng.child("clean")), y)
        for t, candidate in enumerate(self.grid(*x.shape[2:])):
            draws = rng.child("candidate", t)
            point = self._moved(clean, candidate)
            logits = model.proposal(point, rng=draws)
            gain = margin(logits, aim.y)
            larger = gain > largest
            best = torch.where(larger.view(-1, 1, 1, 1), point, best)
            largest, first = torch.where(larger, gain, largest), torch.where(larger, t, first)
            if model.stops_early:
                fooled = aim.confirmed(model, point, logits, rng=draws)
                if fooled.any():
                    x_adv[active[fooled]], step[active[fooled]] = point[fooled], t
                    left = ~fooled
                    active, clean, aim, rng = active[left], clean[left], aim.select(left), rng.select(left)
                    best, largest, first = best[left], largest[left], first[left]
                if not len(active):
                    return AttackResult(x_adv, step)
        reached = aim.reached(model.logits(best, rng=rng.child("best")))
        x_adv[active], step[active] = best, torch.where(reached, first, -1)
        return AttackResult(x_adv, step)

    def cost(self, classes: int) -> Passes:
        """Return the passes of an image that resists every candidate."""
        return Passes(self.angles * self.shifts**2 + FEW, 0)

    def grid(self, height: int, width: int) -> list[Candidate]:
        """Return every candidate for images of this size, those that change the most first."""
        angles = _spread(self.degrees, self.angles)
        rights = _spread(float(round(self.translation * width)), self.shifts)
        downs = _spread(float(round(self.translation * height)), self.shifts)
        every = [Candidate(angle, right, down) for angle in angles for right in rights for down in downs]
        most = Candidate(*(max(map(abs, part)) or 1.0 for part in (angles, rights, downs)))

        def strength(candidate: Candidate) -> float:
            return sum(abs(part) / limit for part, limit in zip(candidate, most, strict=True))

        return sorted(every, key=strength, reverse=True)

    def _moved(self, x: Images, candidate: Candidate) -> Images:
        """Return the images, all turned and shifted alike."""
        angle = torch.full((len(x),), math.radians(candidate.angle), dtype=torch.float64, device=x.device)
        inverse = Matrix(angle.cos(), angle.sin(), -angle.sin(), angle.cos())
        shift = torch.tensor([[candidate.right, candidate.down]], dtype=torch.float64, device=x.device)
        moved = warped(x, inverse, shift.expand(len(x), 2), interpolation=self.interpolation)
        return moved.clamp(0, 1)


def _spread(limit: float, count: int) -> list[float]:
    """Return so many numbers evenly from -limit to limit; 0 if it is one."""
    if count == 1:
        return [0.0]
    return [limit * (2 * i / (count - 1) - 1) for i in range(count)]
