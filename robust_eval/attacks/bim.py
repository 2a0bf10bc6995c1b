"""Step along the sign of the gradient several times, staying in the ball (BIM, also I-FGSM).

Paper: Kurakin, Goodfellow and Bengio 2017, arXiv 1607.02533, section 2.2:
``x_{t+1} = clip_{x,ε}(x_t + α sign(∇ₓ J(x_t, y)))``, from the clean image.

Defaults: 10 steps of ``0.2 ε``, as Foolbox 3.3.4 (torchattacks: 10 steps of 2/255 at ε 8/255, which is 0.25 ε).
Unlike both, the first point on the path that fools the model is kept, not the last.

Reaches the closed-form optimum on a linear model with two classes (tolerance: float32 rounding, 1e-6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robust_eval.attacks._aim import Target, choose_aim
from robust_eval.attacks._ascent import ascend
from robust_eval.attacks._fields import Fraction, Steps
from robust_eval.attacks._losses import LossName
from robust_eval.classifier import Classifier
from robust_eval.methods import Attack
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import AttackResult, Images, Labels, Pixels, Threat

__all__ = ["BIM"]


@register("attack", "bim", version=2)
@dataclass(frozen=True, kw_only=True)
class BIM(Attack):
    """Basic iterative method."""

    eps: Pixels = 8 / 255
    """Radius, in units of the [0, 1] pixel range."""
    norm: Literal["linf", "l2"] = "linf"
    steps: Steps = 10
    relative_step_size: Fraction = 0.2
    """Length of a step as a fraction of ``eps``."""
    loss: LossName = "ce"
    """What is ascended: cross-entropy ``ce``, ``margin`` of logits, or ``dlr``."""
    target: Target | None = None
    """The class to be predicted; ``None`` is content with any wrong one."""

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""
        return ascend(
            model,
            x,
            choose_aim(model, x, y, self.target, rng=rng),
            start=x,
            threat=self.threat,
            steps=self.steps,
            step_size=self.relative_step_size * self.eps,
            loss=self.loss,
            rng=rng,
        )
