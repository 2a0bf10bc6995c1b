"""Train by one regularizer while others change the features inside the network: mixup with dropout.

One of them makes the loss, from images and targets that it may mix. The others, any of those that change features and
keep labels, act wherever it runs the network in train mode, each on its own layers, with new draws in each pass:

    L = loss of the first, of  x -> f_head(d(f_2(d(f_1(x)))))   in place of   x -> f_head(f_2(f_1(x)))

At one layer they act in the order in which they are listed, after what the first does there (``manifold_mixup``).
Adversarial images are looked for in eval mode, where nothing is dropped. Loss and label smoothing are the first one's.

Default: mixup with α = 4 and dropout of 0.1, the pair of Zhang et al. (https://arxiv.org/abs/1710.09412, table 2, of
corrupted labels). Deviation: there dropout is inside the blocks; here, as with ``dropout``, after stages 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from jaxtyping import Float
from pydantic import AfterValidator
from torch import Tensor, nn

from robust_eval.methods import Regularizer, Stage
from robust_eval.registry import find, names, register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers._changed import Changed, ChangesFeatures
from trainers.fitting import Fitting
from trainers.nested import Nested, name_of
from trainers.regularizers.dropout import Dropout
from trainers.regularizers.mixup import Mixup

__all__ = ["Together"]


def _loss_first(of: tuple[Regularizer, ...]) -> tuple[Regularizer, ...]:
    """Return them with the one that makes the loss in front; ``ValueError`` for those that cannot be combined."""
    if any(isinstance(method, Together) for method in of):
        raise ValueError("expected methods in one list, got 'together' inside 'together'")
    changers = [method for method in of if isinstance(method, ChangesFeatures)]
    others = [method for method in of if not isinstance(method, ChangesFeatures)]
    known = ", ".join(
        name for name in names("regularizer") if issubclass(find("regularizer", name), ChangesFeatures)
    )
    given = " and ".join(map(name_of, others))
    if len(others) > 1:
        raise ValueError(
            f"expected one method that makes the loss, and any of {known} under it, got {given}, "
            "which cannot be combined: each has images and targets of its own"
        )
    if not changers:
        raise ValueError(
            f"expected two or more methods, with any of {known} among them, got {given or 'none'}"
        )
    if not others:
        raise ValueError(
            f"expected one method that makes the loss beside {' and '.join(map(name_of, changers))}, got none; "
            "'erm' is the plain one"
        )
    for changer in changers:
        if (changer.criterion, changer.label_smoothing) != (Fitting.criterion, Fitting.label_smoothing):
            raise ValueError(
                f"expected criterion and label_smoothing where the loss is made, in {given}, "
                f"got them in {name_of(changer)}"
            )
    return (*others, *changers)


@register("regularizer", "together")
@dataclass(frozen=True, kw_only=True)
class Together(Regularizer):
    """Loss of one regularizer, in a network whose features others change."""

    of: Annotated[tuple[Nested, ...], AfterValidator(_loss_first)] = (
        Mixup(alpha=4.0),
        Dropout(probability=0.1),
    )
    """The one that makes the loss, and those that change features: names, or tables with a name and fields."""

    def loss(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        *,
        rng: Rng,
        progress: float,
        weights: Weights | None = None,
        companion: nn.Module | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of the first one; raises ``ConfigError`` for layers the network does not have."""
        part = self._part(self.of[0])
        return part.loss(model, x, y, rng=rng, progress=progress, weights=weights, companion=companion)

    def companion(self, network: nn.Module, images: int, *, rng: Rng) -> nn.Module | None:
        """Return that of the first one."""
        return self.of[0].companion(network, images, rng=rng)

    def evaluations(self, n: int) -> int:
        """Return what the first one costs."""
        return self.of[0].evaluations(n)

    @property
    def takes_weights(self) -> bool:
        """Whether the first one does."""
        return self.of[0].takes_weights

    def stages(self) -> list[Stage]:
        """Return the stages of the first one, each with the changes."""
        return [stage._replace(regularizer=self._part(stage.regularizer)) for stage in self.of[0].stages()]

    def _part(self, first: Regularizer) -> _Over:
        changers = [method for method in self.of if isinstance(method, ChangesFeatures)]
        return _Over(first, changers)


@dataclass(frozen=True)
class _Over(Regularizer):
    """One stage: a regularizer over those that change features."""

    first: Regularizer
    changers: Sequence[ChangesFeatures]

    def loss(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        *,
        rng: Rng,
        progress: float,
        weights: Weights | None = None,
        companion: nn.Module | None = None,
    ) -> Float[Tensor, ""]:
        changed = Changed(model, self.changers, rng=rng.child("changes"), progress=progress)
        extras: dict[str, Any] = {"weights": weights, "companion": companion}
        given = {name: value for name, value in extras.items() if value is not None}
        return self.first.loss(changed, x, y, rng=rng, progress=progress, **given)

    def companion(self, network: nn.Module, images: int, *, rng: Rng) -> nn.Module | None:
        return self.first.companion(network, images, rng=rng)

    def evaluations(self, n: int) -> int:
        return self.first.evaluations(n)

    @property
    def takes_weights(self) -> bool:
        return self.first.takes_weights
