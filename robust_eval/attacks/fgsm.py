"""Step once along the sign of the gradient (FGSM).

Paper: Goodfellow, Shlens and Szegedy 2015, arXiv 1412.6572, section 4:
``x_adv = clip(x + ε sign(∇ₓ J(x, y)))``; with ``norm="l2"`` the step is ``ε ∇J / ‖∇J‖₂``.

Reaches the closed-form optimum on a linear model with two classes: it flips exactly the examples whose margin
is below ε (tolerance: float32 rounding, 1e-6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from robust_eval.attacks._aim import Target, choose_aim
from robust_eval.attacks._ascent import ascend
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.losses import LossName
from robust_eval.methods import Attack, Passes, walk
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Pixels, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["FGSM"]


@register("attack", "fgsm", version=2)
@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """Fast gradient sign method."""

    masked_as: ClassVar[Layout | None] = "pixels"
    single_step: ClassVar[bool] = True

    eps: Pixels = 8 / 255
    """Radius and length of the step, in units of the [0, 1] pixel range."""
    norm: Literal["linf", "l2"] = "linf"
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
            steps=1,
            step_size=self.eps,
            loss=self.loss,
            rng=rng,
        )

    def cost(self, classes: int) -> Passes:
        """Return the passes an image costs at most, one that resists to the end."""
        return walk(1)
