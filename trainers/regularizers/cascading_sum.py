"""Train on averages of K images, then of K/2, down to single ones.

A cascade of sum augmentation: each stage trains on averages of K images (see ``sum_augmentation``), and the
next one goes on with half as many, from the best weights of this one:

    K = k, k/2, k/4, ..., stop,   w_next = argmax over the stage of validation accuracy

Coefficients other than 1/K are those of ``sum_augmentation``, drawn anew in every stage. Defaults: k = 8 and stop = 1,
ending on plain images; stop = 2 is for models that average images at test time.

Deviations: the stages share the budget equally, each with its own learning-rate schedule and fresh
momentum. In the description a stage ends when it stops improving (``give_up_after``, off by default, or the stages of
two models would differ in length), and the rate is halved after 300 steps without progress (the recipe's schedule
``halve_on_plateau``). Weights are compared on held-out training images, not on
the test set. The last stage keeps its last weights, like every other method of the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Positive, Whole
from robust_eval.methods import Stage
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers._groups import Coefficients
from trainers.fitting import Fitting
from trainers.regularizers.sum_augmentation import SumAugmentation

__all__ = ["CascadingSum"]


@register("regularizer", "cascading_sum")
@dataclass(frozen=True, kw_only=True)
class CascadingSum(Fitting):
    """Stages of sum augmentation with ever fewer images in an average."""

    k: Annotated[Whole, Field(ge=1)] = 8
    """Images averaged into one in the first stage."""
    stop: Annotated[Whole, Field(ge=1)] = 1
    """Images averaged into one in the last stage: ``k`` halved some number of times, rounded down."""
    divide_by_k: bool = True
    """Whether the loss of a stage is divided by its number of images."""
    give_up_after: Annotated[Whole, Field(ge=0)] = 0
    """Passes without a higher validation accuracy after which a stage leaves the rest of its share to the next; 0: it
    takes all of its share."""
    coefficients: Coefficients = field(default="uniform", metadata={"identity": "given"})
    """Weights of the images of an average: all equal, or drawn for each batch."""
    alpha: Positive = field(default=0.5, metadata={"identity": "given"})
    """Every parameter of the Dirichlet distribution of ``beta``; the smaller, the more one image leads."""

    def __post_init__(self) -> None:
        halvings = _halvings(self.k)
        if self.stop not in halvings:
            raise ValueError(f"expected stop to be one of {', '.join(map(str, halvings))}, got {self.stop}")

    def stages(self) -> list[Stage]:
        """Return one stage for each number of images, with equal shares of the budget."""
        halvings = _halvings(self.k)
        sizes = halvings[: halvings.index(self.stop) + 1]
        patience = self.give_up_after or None
        return [Stage(self._part(size), 1 / len(sizes), "best", patience) for size in sizes]

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

    def _part(self, k: int) -> SumAugmentation:
        return SumAugmentation(
            k=k,
            divide_by_k=self.divide_by_k,
            coefficients=self.coefficients,
            alpha=self.alpha,
            criterion=self.criterion,
            label_smoothing=self.label_smoothing,
        )


def _halvings(k: int) -> list[int]:
    """``k``, ``k // 2``, ... down to 1."""
    return [k >> times for times in range(k.bit_length())]
