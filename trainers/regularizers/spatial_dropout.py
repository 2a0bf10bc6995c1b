"""Set whole channels of a feature map to zero at random.

Tompson, Goroshin, Jain, LeCun and Bregler, "Efficient Object Localization Using Convolutional Networks",
CVPR 2015, https://arxiv.org/abs/1411.4280, section 3.2:

    h' = m * h / (1 - p),   m ~ Bernoulli(1 - p) for each example and channel

Neighbours in a feature map say much the same, so dropping them one by one hides little: their channel goes
as a whole. At test time nothing is dropped, and the division keeps the mean.

Defaults are ours: p = 0.1, the part that DropBlock drops, after stages 1 and 2, which every network of this
package has. ``dropout`` acts in the same places, and differs only in what is dropped together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels
from trainers.fitting import Fitting
from trainers.hidden import Change, Layer, through

__all__ = ["SpatialDropout"]

Features = Float[Tensor, "n c h w"]
# not the input: divided by 1 - p, its pixels would leave [0, 1]
Hidden = Literal["stem", "stage1", "stage2", "stage3", "stage4"]


@register("regularizer", "spatial_dropout")
@dataclass(frozen=True, kw_only=True)
class SpatialDropout(Fitting):
    """Loss with some channels of hidden layers set to zero."""

    probability: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Chance of each channel to be dropped; 0 is ERM."""
    layers: Annotated[tuple[Hidden, ...], Field(min_length=1)] = ("stage1", "stage2")
    """Layers whose output loses channels: ``stem``, ``stage1``, ..."""

    def loss(self, model: nn.Module, x: Images, y: Labels, *, rng: Rng, progress: float) -> Float[Tensor, ""]:
        """Return the mean loss of the batch; raises ``ConfigError`` for layers the network does not have."""
        changes: dict[Layer, Change] = {
            layer: partial(_drop, probability=self.probability, rng=rng.child("mask", layer))
            for layer in self.layers
        }
        logits = through(model, x, changes)
        return self.fit(logits, self.targets(y, logits))


def _drop(h: Features, *, probability: float, rng: Rng) -> Features:
    generator = rng.torch_generator(h.device)
    kept = h.new_empty(*h.shape[:2], 1, 1).bernoulli_(1 - probability, generator=generator)
    # scaled afterwards: in half precision 1 / (1 - p) is off by up to 0.4 %
    return (h * kept).mul_(1 / (1 - probability))
