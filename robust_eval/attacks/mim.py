"""Step along the sign of an accumulated gradient (MIM, also MI-FGSM).

Paper: Dong et al. 2018, arXiv 1710.06081, equations 6 and 7:
``g_{t+1} = μ g_t + ∇ₓJ(x_t, y) / ‖∇ₓJ(x_t, y)‖₁`` and ``x_{t+1} = clip_{x,ε}(x_t + α sign(g_{t+1}))``.

Defaults: μ = 1, 10 steps of ``ε / 10``, as in the paper. Foolbox 3.3.4 takes the sign before accumulating, which
is another method. As in BIM the first point that fools the model is kept, and the far end of some of the steps is
judged as well (``look_ahead=False`` walks as the paper does). A zero gradient adds nothing here; dividing 0 by 0 would
freeze the example for good.

Reaches the closed-form optimum on a linear model with two classes (tolerance: float32 rounding, 1e-6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from robust_eval.attacks._aim import Target, choose_aim
from robust_eval.attacks._ascent import ascend, ascent_cost
from robust_eval.attacks._fields import Fraction, Steps
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Layout
from robust_eval.fields import Real
from robust_eval.losses import LossName
from robust_eval.methods import Attack, Passes
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Pixels, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["MIM"]


@register("attack", "mim", version=3)
@dataclass(frozen=True, kw_only=True)
class MIM(Attack):
    """Momentum iterative method."""

    masked_as: ClassVar[Layout | None] = "pixels"
    eps: Pixels = 8 / 255
    """Radius, in units of the [0, 1] pixel range."""
    norm: Literal["linf", "l2"] = "linf"
    steps: Steps = 10
    relative_step_size: Fraction = 0.1
    """Length of a step as a fraction of ``eps``."""
    momentum: Annotated[Real, Field(ge=0)] = 1.0
    """Decay factor μ of the accumulated gradient."""
    loss: LossName = "ce"
    """What is ascended: cross-entropy ``ce``, ``margin`` of logits, or ``dlr``."""
    target: Target | None = None
    """The class to be predicted; ``None`` is content with any wrong one."""
    look_ahead: bool = True
    """Whether the far end of the direction of the 1st, 2nd, 4th, 8th … step is judged as well, by a forward pass."""

    @property
    def threat(self) -> Threat:
        """The ball of radius ``eps``."""
        return Threat(self.norm, self.eps)

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly."""

        def accumulate(momentum: Images, gradient: Images) -> Images:
            # in float64: the sum over pixels of a gradient of 1e-30 would vanish
            length = gradient.double().abs().flatten(1).sum(1).view(-1, 1, 1, 1)
            unit = (gradient.double() / length.clamp(min=1e-300)).to(gradient.dtype)
            return self.momentum * momentum + unit

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
            accumulate=accumulate,
            look_ahead=self.look_ahead,
        )

    def cost(self, classes: int) -> Passes:
        """Return the passes an image costs at most, one that resists to the end."""
        return ascent_cost(self.steps, look_ahead=self.look_ahead)
