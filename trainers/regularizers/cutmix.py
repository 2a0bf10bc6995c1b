"""Paste a rectangle of another image, and mix the labels by the areas.

Yun, Han, Oh, Chun, Choe and Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with
Localizable Features", ICCV 2019, https://arxiv.org/abs/1905.04899, equations 1 and 2:

    x' = M * x_i + (1 - M) * x_j,   y' = λ y_i + (1 - λ) y_j,   λ ~ Beta(α, α)

M is zero in a box of sides sqrt(1 - λ) H and sqrt(1 - λ) W around a uniform pixel. The box is clipped at the
border, and the λ of the labels is the fraction of pixels that M really keeps.

Defaults: α = 1, and half of the batches stay as they are, as in the authors' code for CIFAR (all are mixed on
ImageNet). As there, one λ, one box and one permutation serve the whole batch, and the box has even sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Positive, Real
from robust_eval.mixing import mix, random_box
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers.fitting import Fitting

__all__ = ["CutMix"]


@register("regularizer", "cutmix")
@dataclass(frozen=True, kw_only=True)
class CutMix(Fitting):
    """Loss of images with a pasted box, targets mixed by area."""

    alpha: Positive = 1.0
    """Both parameters of the Beta distribution of the area that is kept."""
    probability: Annotated[Real, Field(ge=0, le=1)] = 0.5
    """Chance that a batch is mixed at all."""

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
        """Return the mean loss of the batch, mixed or not."""
        if rng.child("whether").numpy().random() >= self.probability:
            plain: Logits = model(x)
            return self.fit(plain, self.targets(y, plain, weights))
        λ = rng.child("lam").numpy().beta(self.alpha, self.alpha)
        h, w = x.shape[-2:]
        box = random_box(h, w, λ, rng.child("box").torch_generator())
        perm = torch.randperm(len(x), generator=rng.child("perm").torch_generator()).to(x.device)
        mixed = x.clone()
        mixed[..., box.rows, box.columns] = x[..., box.rows, box.columns].index_select(0, perm)
        logits: Logits = model(mixed)
        targets = self.targets(y, logits, weights)
        return self.fit(logits, mix(targets, targets[perm], box.kept))
