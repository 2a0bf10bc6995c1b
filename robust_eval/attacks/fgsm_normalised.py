"""Step once along the sign of the gradient, by a length in the units of normalised images.

Faramarzi et al. 2020 (PatchUp, arXiv 2006.07794) attack the images that their networks see, in channel c
``z_c = (x_c - mean_c) / std_c``: ``z_adv = clip(z + ε sign(∇_z J))`` with ε in {.05, .1, .12, .15, .18, .2}. In pixels
that is ``x_adv = clip(x + ε std_c sign(∇ₓ J))``, since a deviation is positive: a longer step where a channel varies
more. With CIFAR-10's deviations 0.05 is about 3.2/255, and 0.2 about 13/255; the default is one number near them.

Stated as linf with radius ``ε max_c std_c``, the smallest cube that holds every step: beside ``fgsm`` at that radius it
is the weaker attack. ``std`` are the deviations a paper divided by, whatever the network does to its images. A radius
for all attacks (``--eps``) is not for it.

Deviations: the paper's code clips to the smallest and largest value of the whole normalised batch, so that an image's
result depends on its company. Here it is clipped to ``box``, the pixels there are, or with ``clip="image"`` to the
smallest and largest pixel of the image itself, over all of its channels. Both stay in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from robust_eval.attacks._aim import Aim
from robust_eval.classifier import Classifier
from robust_eval.errors import DataError
from robust_eval.fields import Positive
from robust_eval.losses import cross_entropy
from robust_eval.methods import Attack, Passes, walk
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Bound, Pixels, Threat
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["FGSMNormalised"]


@register("attack", "fgsm_normalised")
@dataclass(frozen=True, kw_only=True)
class FGSMNormalised(Attack):
    """Fast gradient sign method with a step in the units of normalised images."""

    norms: ClassVar[tuple[Bound, ...]] = ("linf",)
    own_units: ClassVar[bool] = True
    single_step: ClassVar[bool] = True

    eps: Pixels = 0.1
    """Length of the step in units after normalisation."""
    std: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.25,)
    """What the normalisation divides each channel by, in units of the [0, 1] pixel range; a single number is that of
    all channels. About what photographs have; CIFAR-10's are 0.2470, 0.2435, 0.2616."""
    clip: Literal["box", "image"] = "box"
    """To [0, 1], or to the smallest and largest pixel of the image."""

    @property
    def threat(self) -> Threat:
        """The cube that holds the step of every channel."""
        return Threat("linf", self.eps * max(self.std))

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly.

        Raises ``DataError`` for images with another number of channels than ``std`` has numbers.
        """
        if wrong := self.misfit((x.shape[1], x.shape[2], x.shape[3])):
            raise DataError(wrong)
        aim, draws = Aim(y), rng.child("step", 0)
        logits, gradient = model.input_gradient(x, y, cross_entropy, rng=draws)
        x_adv, step = x.clone(), torch.full_like(y, -1)
        left = torch.ones_like(y, dtype=torch.bool)
        if model.stops_early:
            left = ~aim.confirmed(model, x, logits, rng=draws)
            step[~left] = 0
        if left.any():
            clean, aim, rng = x[left], aim.select(left), rng.select(left)
            moved = self._clipped(clean + self.eps * self._std(x) * gradient[left].sign(), clean)
            reached = aim.reached(model.logits(moved, rng=rng.child("last")))
            x_adv[left], step[left] = moved, reached.long() * 2 - 1
        return AttackResult(x_adv, step)

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Return that ``std`` has neither one number nor as many as images of this shape [c,h,w] have channels."""
        if len(self.std) in (1, shape[0]):
            return None
        return (
            f"attack 'fgsm_normalised': std: expected {shape[0]} numbers, one per channel, or one for all, "
            f"got {list(self.std)}"
        )

    def cost(self, classes: int) -> Passes:
        """Return the passes an image costs at most, one that resists to the end."""
        return walk(1)

    def _std(self, x: Images) -> torch.Tensor:
        return torch.tensor(self.std, dtype=x.dtype, device=x.device).view(-1, 1, 1)

    def _clipped(self, moved: Images, clean: Images) -> Images:
        if self.clip == "box":
            return moved.clamp(0, 1)
        low, high = (end.view(-1, 1, 1, 1) for end in clean.flatten(1).aminmax(dim=1))
        return moved.clamp(low, high)
