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
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from robust_eval.fields import Real
from robust_eval.registry import register
from robust_eval.rng import Rng
from trainers._dropped import Dropped, Features

__all__ = ["Dropout"]


@register("regularizer", "dropout")
@dataclass(frozen=True, kw_only=True)
class Dropout(Dropped):
    """Loss with some features of hidden layers set to zero."""

    probability: Annotated[Real, Field(ge=0, lt=1)] = 0.3
    """Chance of each feature to be dropped; 0 is ERM."""

    def kept(self, h: Features, rng: Rng) -> Bool[Tensor, "n c h w"]:
        """Draw a mask of single features."""
        # laid out as h is; on a CPU bernoulli_ takes three times as long, and torch.where as the product
        u = torch.empty_like(h, dtype=torch.float32).uniform_(generator=rng.torch_generator(h.device))
        return u >= self.probability
