"""Sets features of hidden layers to zero and makes up for them: what the kinds of dropout share.

    h' = m * h / (1 - p)

Kinds differ in the mask m: in what is dropped together.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Real
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers._changed import ChangesFeatures
from trainers.hidden import Change, Hidden, Layer, through

__all__ = ["Dropped", "Features"]

Features = Float[Tensor, "n c h w"]


@dataclass(frozen=True, kw_only=True)
class Dropped(ChangesFeatures):
    """Loss with a part of the features of hidden layers set to zero."""

    probability: Annotated[Real, Field(ge=0, lt=1)]
    """Chance of each feature to be dropped; 0 is ERM."""
    # not the input: divided by 1 - p, its pixels would leave [0, 1]
    layers: Annotated[tuple[Hidden, ...], Field(min_length=1)] = ("stage1", "stage2")
    """Layers whose output loses features: ``stem``, ``stage1``, ..."""

    @abstractmethod
    def kept(self, h: Features, rng: Rng) -> Shaped[Tensor, "n c _h _w"]:
        """Draw the mask of a layer's output, which is 1 where features are kept."""

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
        logits = through(model, x, self.changes(rng=rng, progress=progress))
        return self.fit(logits, self.targets(y, logits, weights))

    def changes(self, *, rng: Rng, progress: float) -> Mapping[Layer, Change]:
        """Return what drops a part of each layer's output."""
        return {layer: partial(self._drop, rng=rng.child("mask", layer)) for layer in self.layers}

    def _drop(self, h: Features, rng: Rng) -> Features:
        # scaled afterwards: in half precision 1 / (1 - p) is off by up to 0.4 %
        return (h * self.kept(h, rng)).mul_(1 / (1 - self.probability))
