"""Mix clean images with clean ones and perturbed images with perturbed ones.

Lamb, Verma, Kannala and Bengio, "Interpolated Adversarial Training: Achieving Robust Neural Networks without
Sacrificing Too Much Accuracy", AISec 2019, https://arxiv.org/abs/1906.06784, with mixup as the interpolation:

    L = 1/2 L_mixup(x, y) + 1/2 L_mixup(x', y),   x' = Π(x + α sign grad_x CE(f(x), c)) repeated,   λ ~ Beta(α, α)

One half of a batch stays clean, the other is perturbed, and each is mixed with itself, with one λ for each image.
Defaults: α = 1, ε = 8/255 and 10 steps of 2/255 from a uniform start, and the ascent leads away from the predicted
class c, as in the training script of Pang, Xu and Zhu 2020 (arXiv 1909.11515); ``away_from="label"`` is Madry's.

Deviations: both halves pass through the network in one batch, so that BatchNorm sees one distribution and moves its
running statistics once. Weight decay belongs to the recipe; that script has none. With an odd batch the perturbed
part has one image more or less, and each image counts the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Positive, Real
from robust_eval.mixing import mix
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers._perturbation import Perturbing, settled
from trainers.fitting import Fitting

__all__ = ["InterpolatedAdversarial"]


@register("regularizer", "interpolated_adversarial")
@dataclass(frozen=True, kw_only=True)
class InterpolatedAdversarial(Perturbing, Fitting):
    """Loss of mixed clean and mixed perturbed images, in a batch that is shuffled already."""

    alpha: Positive = 1.0
    """Both parameters of the Beta distribution of λ; the larger, the closer λ is to 1/2."""
    share: Annotated[Real, Field(ge=0, le=1)] = 0.5
    """Part of the batch that is perturbed."""
    away_from: Literal["prediction", "label"] = "prediction"
    """Class whose probability the ascent lowers: the one predicted for the clean image, or the true one."""

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
        """Return the mean loss of the two mixed parts of the batch."""
        n, clean = len(x), len(x) - self._perturbed(len(x))
        images = x
        if clean < n:
            part, draws = x[clean:], rng.for_batch(n).select(slice(clean, n))
            away_from = y[clean:] if self.away_from == "label" else settled(model, part).argmax(1)
            start = self.uniform_start(part, draws.child("start"))
            images = torch.cat([x[:clean], self.climb(model, part, away_from, start=start)])
        generator = rng.child("perm").torch_generator()
        perm = torch.cat(
            [
                torch.randperm(clean, generator=generator),
                clean + torch.randperm(n - clean, generator=generator),
            ]
        ).to(x.device)
        λ = torch.from_numpy(rng.child("lam").numpy().beta(self.alpha, self.alpha, n)).to(x)
        logits: Logits = model(mix(images, images[perm], λ))
        targets = self.targets(y, logits, weights)
        return self.fit(logits, mix(targets, targets[perm], λ.to(logits.dtype)))

    def evaluations(self, n: int) -> int:
        """Return ``n`` and, for each image that is perturbed, its steps and the prediction they lead away from."""
        return n + self._perturbed(n) * (self.steps + (self.away_from == "prediction"))

    def _perturbed(self, n: int) -> int:
        return round(self.share * n)
