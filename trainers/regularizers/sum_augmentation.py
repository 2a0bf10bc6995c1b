"""Train on averages of K images, with the average of their labels as target.

Sum augmentation cuts a batch of m images into K groups of s = floor(m / K) and averages across the groups:

    x'[i] = 1/K sum_j x[i + j s],   y'[i] = 1/K sum_j onehot(y[i + j s]),   L = 1/K loss(f(x'), y'),   i < s

The m - K s images left over are not used, and BatchNorm sees s images. K = 1 is ERM.

The division of the loss by K is part of the method. A batch costs s network evaluations instead of m, so an
equal budget takes K times as many steps, each with 1/K of the gradient; weight decay is not divided.

Deviation: the method was described with binary cross-entropy; here "ce" is the default. All regularizers
share one recipe, and averaged over n classes the binary loss has a gradient about n times smaller: the
learning rate that suits the others would all but stop it, and K = 1 would not be their baseline. "bce" is
the mean over batch and classes of the binary cross-entropy on sigmoids (the description leaves open
which); raise the learning rate with it. Coefficients are uniform, the best of the choices that were
tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.errors import ConfigError
from robust_eval.methods import Regularizer
from robust_eval.mixing import binary_cross_entropy, soft_cross_entropy, soft_targets, sum_augment
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits

__all__ = ["Criterion", "SumAugmentation"]

Criterion = Literal["ce", "bce"]
_LOSSES = {"ce": soft_cross_entropy, "bce": binary_cross_entropy}


@register("regularizer", "sum_augmentation")
@dataclass(frozen=True, kw_only=True)
class SumAugmentation(Regularizer):
    """Loss of averages of ``k`` images, in a batch that is shuffled already."""

    k: Annotated[int, Field(ge=1)]
    """Images averaged into one."""
    divide_by_k: bool = True
    """Whether the loss is divided by ``k``."""
    criterion: Criterion = "ce"
    """Cross-entropy on the softmax, or binary cross-entropy on sigmoids."""

    def loss(self, model: nn.Module, x: Images, y: Labels, *, rng: Rng, progress: float) -> Float[Tensor, ""]:
        """Return the loss of the ``len(x) // k`` averaged images."""
        logits: Logits = model(sum_augment(x, self.k))
        targets = sum_augment(soft_targets(y, logits.shape[1]), self.k)
        loss = _LOSSES[self.criterion](logits, targets)
        return loss / self.k if self.divide_by_k else loss

    def evaluations(self, n: int) -> int:
        """Return ``n // k``; raises ``ConfigError`` when a batch does not fill one average."""
        if n < self.k:
            raise ConfigError(
                f"sum_augmentation: expected a batch of at least k={self.k} images, got {n}; "
                "raise batch_size or lower k"
            )
        return n // self.k
