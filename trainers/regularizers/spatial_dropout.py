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
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from robust_eval.fields import Real
from robust_eval.registry import register
from robust_eval.rng import Rng
from trainers._dropped import Dropped, Features

__all__ = ["SpatialDropout"]


@register("regularizer", "spatial_dropout")
@dataclass(frozen=True, kw_only=True)
class SpatialDropout(Dropped):
    """Loss with some channels of hidden layers set to zero."""

    probability: Annotated[Real, Field(ge=0, lt=1)] = 0.1
    """Chance of each channel to be dropped; 0 is ERM."""

    def kept(self, h: Features, rng: Rng) -> Float[Tensor, "n c 1 1"]:
        """Draw a mask of whole channels."""
        generator = rng.torch_generator(h.device)
        return h.new_empty(*h.shape[:2], 1, 1).bernoulli_(1 - self.probability, generator=generator)
