"""Train on averages of K images of which one after the other fades out, down to single ones.

Like ``cascading_sum``, but without jumps: as t goes from 0 to 1, the coefficients of an average of n images move from
1/n each to all on the first. With k = floor(t (n - 1)) images gone and u = t (n - 1) - k of the way to the next, the
last of the n - k that are left fades and the others share what it loses:

    GCC_n(t):   c_last = (1 - u)^2 / (n - k),   c_other = (1 - c_last) / (n - k - 1),   c_gone = 0
    x'[i] = sum_j c_j x[i + j s],   y'[i] = sum_j c_j onehot(y[i + j s]),   s = floor(m / (n - k)),   i < s
    L = 1/(n - k) loss(f(x'), y')

t grows evenly over the training and stays at 1, plain images, for the last part ``finetune`` of it.

The description prints GCC in pieces, and one of them without its leading 1/(n - k): taken literally it would begin with
all weight on one image. The closed form above is what its text asks for: 1/(n - k) each at the knots t = k / (n - 1),
continuous between them. It also prints a factor 1/c_j before an unweighted sum of images, which is no average; the sums
here are weighted. Choices where it says nothing: groups are made of the n - k images in use, so no image is
loaded for nothing; the loss is divided by n - k, as sum augmentation divides by K; ``finetune`` is a quarter,
as long as ``cascading_sum`` spends on plain images with its defaults.

Drawn coefficients are ours: ``beta`` are from the Dirichlet distribution of parameters α c_j / max c, new ones for each
batch. Their mean is c; at a knot they are those of ``sum_augmentation``, Dirichlet(α, ..., α) of the images left;
between knots the law changes without a jump, and at the end it is all on the first. ``random`` has α = 1.

Deviations: t follows the budget, step by step, and not the number of the epoch. A step costs s network evaluations, so
each n - k is a stage with an equal part of the budget; optimizer and learning-rate schedule go on from one to the next,
and the rate, as t, is a function of the budget spent. Cross-entropy instead of binary cross-entropy: see
``sum_augmentation``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.errors import ConfigError
from robust_eval.fields import Positive, Real, Whole
from robust_eval.methods import Stage
from robust_eval.mixing import fading_coefficients, gradual_coefficients
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers._groups import Coefficients, drawn, weigh
from trainers.fitting import Fitting

__all__ = ["GradualCascadingSum", "gradual_coefficients"]


@register("regularizer", "gradual_cascading_sum", version=2)
@dataclass(frozen=True, kw_only=True)
class GradualCascadingSum(Fitting):
    """Averages of images that fade out one by one."""

    k: Annotated[Whole, Field(ge=1)] = 8
    """Images averaged into one at the start."""
    finetune: Annotated[Real, Field(ge=0, lt=1)] = 0.25
    """Last part of the budget, spent on plain images."""
    divide_by_k: bool = True
    """Whether the loss is divided by the number of images in use."""
    coefficients: Coefficients = field(default="uniform", metadata={"identity": "given"})
    """Weights of the images of an average: those that fade, or drawn around them for each batch."""
    alpha: Positive = field(default=0.5, metadata={"identity": "given"})
    """Largest parameter of the Dirichlet distribution of ``beta``; the smaller, the more one image leads."""

    def stages(self) -> list[Stage]:
        """Return one stage for each number of images in use, the last of plain images; all are one training."""
        fading = (1 - self.finetune) / max(self.k - 1, 1)
        plain = 1.0 if self.k == 1 else self.finetune
        shares = dict.fromkeys(range(self.k, 1, -1), fading)
        if plain:
            shares[1] = plain
        return [Stage(self._part(used), share, continues=used < self.k) for used, share in shares.items()]

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
        """Return the loss of the first stage; training goes through ``stages``."""
        return self._part(self.k).loss(model, x, y, rng=rng, progress=progress, weights=weights)

    def evaluations(self, n: int) -> int:
        """Return what a batch costs in the first stage."""
        return self._part(self.k).evaluations(n)

    def _part(self, used: int) -> _Fading:
        return _Fading(
            start=self.k,
            used=used,
            finetune=self.finetune,
            divide_by_k=self.divide_by_k,
            coefficients=self.coefficients,
            alpha=self.alpha,
            criterion=self.criterion,
            label_smoothing=self.label_smoothing,
        )


@dataclass(frozen=True, kw_only=True)
class _Fading(Fitting):
    """The stage in which ``used`` of ``start`` images are in use, and the last of them fades."""

    start: int
    used: int
    finetune: float
    divide_by_k: bool
    coefficients: Coefficients
    alpha: float

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
        t = progress / (1 - self.finetune)
        # progress is summed over the stages: rounding must not lead out of this one
        faded = min(max(t * (self.start - 1) - (self.start - self.used), 0.0), 1.0)
        coefficients = drawn(fading_coefficients(self.used, faded), self.coefficients, self.alpha, rng=rng)
        logits: Logits = model(weigh(x, coefficients))
        targets = self.targets(y, logits, weights).to(logits.dtype)
        loss = self.fit(logits, weigh(targets, coefficients))
        return loss / self.used if self.divide_by_k else loss

    def evaluations(self, n: int) -> int:
        if n < self.used:
            raise ConfigError(
                f"gradual_cascading_sum: expected a batch of at least k={self.used} images, got {n}; "
                "raise batch_size or lower k"
            )
        return n // self.used
