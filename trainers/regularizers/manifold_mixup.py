"""Mix two images' hidden features, and mix their labels equally.

Verma, Lamb, Beckham, Najafi, Mitliagkas, Lopez-Paz and Bengio, "Manifold Mixup: Better Representations by Interpolating
Hidden States", ICML 2019, https://arxiv.org/abs/1806.05236, section 2:

    h' = λ h_i + (1 - λ) h_j,   y' = λ y_i + (1 - λ) y_j,   λ ~ Beta(α, α)

at a layer drawn anew for each batch; gradients flow to both images. With the input as the only layer it is ``mixup``.

Defaults are those of the authors' repository on CIFAR: α = 2, at the input or after stage 1 or 2. It numbers these
0, 1 and 2; other repositories mean the stem by 1. It trains for up to 2000 epochs: in 200 there is little to gain.

As there, one λ and one permutation serve the whole batch. Deviation: the criterion is cross-entropy, as for all
regularizers here (theirs: "bce_softmax").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Positive
from robust_eval.mixing import mix
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers.fitting import Fitting
from trainers.hidden import Layer, draw_layer, through

__all__ = ["ManifoldMixup"]


@register("regularizer", "manifold_mixup")
@dataclass(frozen=True, kw_only=True)
class ManifoldMixup(Fitting):
    """Loss of features mixed at one of several layers, with equally mixed targets."""

    alpha: Positive = 2.0
    """Both parameters of the Beta distribution of λ; the larger, the closer λ is to 1/2."""
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] = ("input", "stage1", "stage2")
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
        """Return the mean loss of the batch; raises ``ConfigError`` for layers the network does not have."""
        layer = draw_layer(self.layers, rng=rng)
        perm = torch.randperm(len(x), generator=rng.child("perm").torch_generator()).to(x.device)
        logits = through(model, x, {layer: lambda h: self.mix_features(h, perm, rng=rng)})
        targets = self.targets(y, logits, weights)
        return self.fit(logits, mix(targets, targets[perm], self._lam(rng)))

    def mix_features(self, h: Tensor, perm: Int[Tensor, " n"], *, rng: Rng) -> Tensor:
        """Return features [n,...] of which row i is ``λ h[i] + (1 - λ) h[perm[i]]``, with one λ for all."""
        # not h[perm]: on a GPU its gradient sorts the indices first
        return mix(h, h.index_select(0, perm), self._lam(rng))

    def _lam(self, rng: Rng) -> float:
        return float(rng.child("lam").numpy().beta(self.alpha, self.alpha))
