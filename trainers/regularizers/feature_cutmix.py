"""Paste a rectangle of another image's hidden features, and mix the labels by the areas.

Yun, Han, Oh, Chun, Choe and Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", ICCV 2019, https://arxiv.org/abs/1905.04899, the ablation "Feature CutMix" of its equations 1 and 2:

    h' = M * h_i + (1 - M) * h_j,   y' = λ y_i + (1 - λ) y_j,   λ ~ Beta(α, α)

at a layer drawn anew for each batch. M [h,w] is zero in a box of the feature map, the same in all channels, and λ is
the fraction of positions that it really keeps. With the input as the only layer it is ``cutmix``, which is the better
method on ImageNet (21.4 % against 21.8 % error of a ResNet-50).

Defaults: the input, the stem and the stages 1 and 2, which is how we read the paper's layers 0 to 3; its code does not
have this variant. α = 1 and half of the batches are ``cutmix``'s, so that the layer is all that differs. As there, one
λ, one box and one permutation serve the whole batch.
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
from trainers.hidden import Layer, draw_layer, through

__all__ = ["FeatureCutMix"]

Features = Float[Tensor, "n c h w"]


@register("regularizer", "feature_cutmix")
@dataclass(frozen=True, kw_only=True)
class FeatureCutMix(Fitting):
    """Loss of features with a pasted box at one of several layers, targets mixed by area."""

    alpha: Positive = 1.0
    """Both parameters of the Beta distribution of the area that is kept."""
    probability: Annotated[Real, Field(ge=0, le=1)] = 0.5
    """Chance that a batch is mixed at all."""
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] = ("input", "stem", "stage1", "stage2")
    """Layers of which one is drawn for each batch: ``input``, ``stem``, ``stage1``, ..."""

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
        """Return the loss of the batch, mixed or not; raises ``ConfigError`` for layers the network does not have."""
        if rng.child("whether").numpy().random() >= self.probability:
            plain: Logits = model(x)
            return self.fit(plain, self.targets(y, plain, weights))
        layer = draw_layer(self.layers, rng=rng)
        λ = rng.child("lam").numpy().beta(self.alpha, self.alpha)
        perm = torch.randperm(len(x), generator=rng.child("perm").torch_generator()).to(x.device)
        kept = 1.0

        def paste(h: Features) -> Features:
            nonlocal kept
            tall, wide = h.shape[-2:]
            rows, columns, kept = random_box(tall, wide, λ, rng.child("box").torch_generator())
            mixed = h.clone()
            # not h[perm]: on a GPU its gradient sorts the indices first
            mixed[..., rows, columns] = h[..., rows, columns].index_select(0, perm)
            return mixed

        logits = through(model, x, {layer: paste})
        targets = self.targets(y, logits, weights)
        return self.fit(logits, mix(targets, targets[perm], kept))
