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
which); raise the learning rate with it.

Coefficients c_j take the place of 1/K in x' and y': ``uniform`` are 1/K, the best of the choices that were tried;
``beta`` are drawn from the symmetric Dirichlet(α, ..., α), for K = 2 mixup's λ ~ Beta(α, α) and 1 - λ, and ``random``
from that with α = 1, uniform over all that sum to one. New ones are drawn for each batch, the same for all its
averages. The description names neither the α nor how draws are made to sum to one, so the Dirichlet distribution is
our reading: K draws divided by their sum, as in version 1, have for K = 2 another law than mixup's λ (a standard
deviation of .301 instead of .354 at α = 1/2). α = 1/2 is ours, since 1 is ``random``. Default: K = 2, the smallest
that mixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.errors import ConfigError
from robust_eval.fields import Positive, Whole
from robust_eval.mixing import sum_augment
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers._groups import Coefficients, drawn, weigh
from trainers.fitting import Fitting

__all__ = ["SumAugmentation"]


@register("regularizer", "sum_augmentation", version=2)
@dataclass(frozen=True, kw_only=True)
class SumAugmentation(Fitting):
    """Loss of averages of ``k`` images, in a batch that is shuffled already."""

    k: Annotated[Whole, Field(ge=1)] = 2
    """Images averaged into one."""
    divide_by_k: bool = True
    """Whether the loss is divided by ``k``."""
    coefficients: Coefficients = "uniform"
    """Weights of the ``k`` images: all equal, or drawn for each batch."""
    alpha: Positive = 0.5
    """Every parameter of the Dirichlet distribution of ``beta``; the smaller, the more one image leads."""

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
        """Return the loss of the ``len(x) // k`` averaged images."""
        equal = [1 / self.k] * self.k
        coefficients = drawn(equal, self.coefficients, self.alpha, rng=rng)
        logits: Logits = model(self._mixed(x, coefficients))
        targets = self.targets(y, logits, weights).to(logits.dtype)
        loss = self.fit(logits, self._mixed(targets, coefficients))
        return loss / self.k if self.divide_by_k else loss

    def evaluations(self, n: int) -> int:
        """Return ``n // k``; raises ``ConfigError`` when a batch does not fill one average."""
        if n < self.k:
            raise ConfigError(
                f"sum_augmentation: expected a batch of at least k={self.k} images, got {n}; "
                "raise batch_size or lower k"
            )
        return n // self.k

    def _mixed(self, rows: Tensor, coefficients: list[float]) -> Tensor:
        if self.coefficients == "uniform":
            return sum_augment(rows, self.k)
        return weigh(rows, coefficients)
