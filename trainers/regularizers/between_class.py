"""Train on mixtures of two images of different classes, and on the ratio they are mixed in.

Tokozume, Ushiku and Harada, "Between-class Learning for Image Classification", CVPR 2018,
https://arxiv.org/abs/1711.10284, in its simple form (BC) and in the one for waves (BC+):

    BC:   x' = r x_i + (1 - r) x_j,   y' = r y_i + (1 - r) y_j,   y_i != y_j,   r ~ U(0, 1)
    BC+:  x' = (p x_i + (1 - p) x_j) / sqrt(p^2 + (1 - p)^2),   p = 1 / (1 + σ_i / σ_j (1 - r) / r)

BC+ takes images for waves of zero mean, whose energies add up: σ is the standard deviation of an image over
all its pixels and channels, p makes r the ratio in which the two are seen, and the root keeps the energy of
the mixture.

Each image has a ratio of its own. The paper minimises the divergence KL(y' || f(x')); cross-entropy is
greater by the entropy of y', which no weight changes.

Deviations: x_j is drawn from those of the batch that have another class, evenly, and not from the whole
training set; an image that finds none stays as it is. BC+ here mixes the images less their means as above,
adds the means mixed by r, and clamps to [0, 1]: the paper also hands its network zero-mean images at test
time, ours sees plain ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from robust_eval.mixing import mix
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers.fitting import Fitting

__all__ = ["BetweenClass"]


@register("regularizer", "between_class")
@dataclass(frozen=True, kw_only=True)
class BetweenClass(Fitting):
    """Loss of images mixed across classes, with equally mixed targets."""

    plus: bool = False
    """Whether images are mixed as waves (BC+)."""

    def loss(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        *,
        rng: Rng,
        progress: float,
        weights: Weights | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean loss of the mixed batch."""
        rng = rng.for_batch(len(x))
        other = _others(y, rng.child("other").uniform(device=x.device))
        # alone in the batch with its class, an image is mixed with itself: all of it is kept
        r = rng.child("r").uniform(device=x.device).where(y != y[other], 1.0)
        mix_images = _mix_waves if self.plus else mix
        logits: Logits = model(mix_images(x, x[other], r.to(x.dtype)))
        targets = self.targets(y, logits, weights)
        return self.fit(logits, mix(targets, targets[other], r.to(logits.dtype)))


def _others(y: Labels, u: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return for each label where one unlike it is, ``u`` in [0, 1) saying which; its own place if none is."""
    in_order, order = y.sort(stable=True)
    first, end = torch.searchsorted(in_order, y), torch.searchsorted(in_order, y, right=True)
    others = len(y) - (end - first)
    # counted among the others, and then past the block of like ones
    place = (u * others).long()
    place = torch.where(place < first, place, place + (end - first))
    return torch.where(others > 0, order[place.clamp(max=len(y) - 1)], torch.arange(len(y), device=y.device))


def _mix_waves(x: Images, x_other: Images, r: Float[Tensor, " n"]) -> Images:
    σ, mean = torch.std_mean(x, (1, 2, 3), correction=0, keepdim=True)
    σ_other, mean_other = torch.std_mean(x_other, (1, 2, 3), correction=0, keepdim=True)
    r = r.view(-1, 1, 1, 1)
    # the paper's p, multiplied out: no quotient is 0 / 0 for r = 0 or for images of one colour
    share, share_other = r * (σ_other + 1e-8), (1 - r) * (σ + 1e-8)
    p = share / (share + share_other)
    waves = (p * (x - mean) + (1 - p) * (x_other - mean_other)) / (p**2 + (1 - p) ** 2).sqrt()
    return (waves + r * mean + (1 - r) * mean_other).clamp(0, 1)
