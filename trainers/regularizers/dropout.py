"""Set features to zero at random, one by one.

Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: A Simple Way to Prevent Neural
Networks from Overfitting", JMLR 15, 2014, https://jmlr.org/papers/v15/srivastava14a.html:

    h' = m * h / (1 - p),   m ~ Bernoulli(1 - p) for each example, channel and position

At test time nothing is dropped, and the division keeps the mean.

Defaults: p = 0.3, what Wide ResNets use on CIFAR (https://arxiv.org/abs/1605.07146), after stages 1 and 2,
which every network of this package has.

Deviation: Wide ResNets drop within their blocks, between the convolutions. Here the output of a stage loses
features, as with ``spatial_dropout``: any network can, and the two differ only in what is dropped together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels
from trainers.fitting import Fitting
from trainers.hidden import Change, Layer, through

__all__ = ["Dropout"]

Features = Float[Tensor, "n c h w"]
# not the input: divided by 1 - p, its pixels would leave [0, 1]
Hidden = Literal["stem", "stage1", "stage2", "stage3", "stage4"]


@register("regularizer", "dropout")
@dataclass(frozen=True, kw_only=True)
class Dropout(Fitting):
    """Loss with some features of hidden layers set to zero."""

    probability: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Chance of each feature to be dropped; 0 is ERM."""
    layers: Annotated[tuple[Hidden, ...], Field(min_length=1)] = ("stage1", "stage2")
    """Layers whose output loses features: ``stem``, ``stage1``, ..."""

    def loss(self, model: nn.Module, x: Images, y: Labels, *, rng: Rng, progress: float) -> Float[Tensor, ""]:
        """Return the mean loss of the batch; raises ``ConfigError`` for layers the network does not have."""
        changes: dict[Layer, Change] = {
            layer: partial(_drop, probability=self.probability, rng=rng.child("mask", layer))
            for layer in self.layers
        }
        logits = through(model, x, changes)
        return self.fit(logits, self.targets(y, logits))


def _drop(h: Features, *, probability: float, rng: Rng) -> Features:
    # laid out as h is; on a CPU bernoulli_ takes three times as long, and torch.where as the product
    u = torch.empty_like(h, dtype=torch.float32).uniform_(generator=rng.torch_generator(h.device))
    return (h * (u >= probability)).mul_(1 / (1 - probability))
