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
``random`` and ``beta`` are K draws from (0, 1], uniform or from Beta(α, α), divided by their sum, new ones for each
batch and the same for all its outputs: they are not drawn for each average. The description names neither the α nor
how the draws are normalised; α = 1/2 is ours, since 1 is ``random``. Default: K = 2, the smallest that mixes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.errors import ConfigError
from robust_eval.fields import Positive, Whole
from robust_eval.mixing import sum_augment
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers._groups import weigh
from trainers.fitting import Fitting

__all__ = ["SumAugmentation"]


@register("regularizer", "sum_augmentation")
@dataclass(frozen=True, kw_only=True)
class SumAugmentation(Fitting):
    """Loss of averages of ``k`` images, in a batch that is shuffled already."""

    k: Annotated[Whole, Field(ge=1)] = 2
    """Images averaged into one."""
    divide_by_k: bool = True
    """Whether the loss is divided by ``k``."""
    coefficients: Literal["uniform", "beta", "random"] = "uniform"
    """Weights of the ``k`` images: all equal, or drawn for each batch and divided by their sum."""
    alpha: Positive = 0.5
    """Both parameters of the Beta distribution of ``beta``; the smaller, the more one image leads."""

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
        mixed = self._mixer(rng)
        logits: Logits = model(mixed(x))
        targets = self.targets(y, logits, weights).to(logits.dtype)
        loss = self.fit(logits, mixed(targets))
        return loss / self.k if self.divide_by_k else loss

    def evaluations(self, n: int) -> int:
        """Return ``n // k``; raises ``ConfigError`` when a batch does not fill one average."""
        if n < self.k:
            raise ConfigError(
                f"sum_augmentation: expected a batch of at least k={self.k} images, got {n}; "
                "raise batch_size or lower k"
            )
        return n // self.k

    def _mixer(self, rng: Rng) -> Callable[[Tensor], Tensor]:
        if self.coefficients == "uniform":
            return partial(sum_augment, k=self.k)
        generator = rng.child("coefficients").numpy()
        draws = 1 - generator.random(self.k)
        if self.coefficients == "beta":
            # with a small alpha all draws may come out as zero
            draws = generator.beta(self.alpha, self.alpha, self.k) + 1e-12
        return partial(weigh, coefficients=(draws / draws.sum()).tolist())
