"""Train on straight lines between pairs of images and of their labels.

Zhang, Cissé, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018,
https://arxiv.org/abs/1710.09412, section 2:

    x' = λ x_i + (1 - λ) x_j,   y' = λ y_i + (1 - λ) y_j,   λ ~ Beta(α, α)

Default: α = 1 as on CIFAR-10 and CIFAR-100 (section 3.2); the paper advises 0.1 to 0.4 on ImageNet (3.1).

As in the authors' code, one λ and one permutation serve the whole batch, and pairs come from the same batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.fields import Positive
from robust_eval.mixing import mix
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers.fitting import Fitting

__all__ = ["Mixup"]


@register("regularizer", "mixup")
@dataclass(frozen=True, kw_only=True)
class Mixup(Fitting):
    """Loss of mixed images with equally mixed targets."""

    alpha: Positive = 1.0
    """Both parameters of the Beta distribution of λ; the larger, the closer λ is to 1/2."""

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
        λ = rng.child("lam").numpy().beta(self.alpha, self.alpha)
        perm = torch.randperm(len(x), generator=rng.child("perm").torch_generator()).to(x.device)
        logits: Logits = model(mix(x, x.index_select(0, perm), λ))
        targets = self.targets(y, logits, weights)
        return self.fit(logits, mix(targets, targets[perm], λ))
