"""Train on the worst image that a few steps of gradient ascent find around each one.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks",
ICLR 2018, https://arxiv.org/abs/1706.06083, equation 2.1, the maximum by projected gradient ascent:

    min_θ E [ max_{|δ|_inf <= ε} CE(f(x + δ), y) ],   x <- Π(x + α sign grad_x CE(f(x), y))

Defaults are the paper's for CIFAR-10 (section 5): ε = 8/255, steps of 2/255, 7 of them, from a uniform random
start. Only perturbed images enter the loss.

The fast single step of Wong, Rice and Kolter, "Fast is better than free: Revisiting adversarial training", ICLR 2020,
https://arxiv.org/abs/2001.03994, algorithm 3, is ``steps=1, step_size=1.25 eps`` (10/255 at 8/255), from the same
uniform start. It can fail late in training, when the network learns to mask its gradient: watch its accuracy under PGD.

With ``probability`` below 1 that share of each batch is perturbed and the rest stays clean. ``then`` is the regularizer
that is given the images in place of the plain loss, by its name or as a table with its fields: ``then = "mixup"`` or
``then = { name = "mixup", alpha = 0.2 }`` mixes perturbed images.

Deviation: the authors' code attacks in train mode. Here the ascent runs with dropout off and with the
running statistics of BatchNorm, which it leaves as they are: in train mode each of its steps would shift
them. The loss at the point it found is taken in train mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.errors import ConfigError
from robust_eval.fields import Real, Whole
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers._perturbation import Perturbing
from trainers.nested import Nested, name_of
from trainers.regularizers.erm import ERM

__all__ = ["Adversarial"]


@register("regularizer", "adversarial")
@dataclass(frozen=True, kw_only=True)
class Adversarial(Perturbing):
    """Loss of images perturbed by projected gradient ascent."""

    steps: Annotated[Whole, Field(ge=1)] = 7
    probability: Annotated[Real, Field(ge=0, le=1)] = 1.0
    """Share of a batch that is perturbed: of n images ``round(probability n)``, drawn at random."""
    then: Nested = ERM()  # noqa: RUF009 - it is frozen
    """The regularizer that gets the images, perturbed or not: a name, or a table with a name and fields."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.then, Perturbing):
            raise ConfigError(
                f"then: expected a regularizer that does not perturb images itself, got {name_of(self.then)!r}; "
                "more steps are more of the same"
            )
        if len(self.then.stages()) > 1:
            raise ConfigError(
                f"then: expected a regularizer of one stage, got {name_of(self.then)!r}, which has several"
            )

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
        """Return the loss of the batch with perturbed images in it."""
        x_mixed = self._perturb(model, x, y, rng.for_batch(len(x)))
        extras: dict[str, Any] = {"weights": weights, "companion": companion}
        given = {name: value for name, value in extras.items() if value is not None}
        return self.then.loss(model, x_mixed, y, rng=rng.child("then"), progress=progress, **given)

    def companion(self, network: nn.Module, images: int, *, rng: Rng) -> nn.Module | None:
        """Return that of ``then``."""
        return self.then.companion(network, images, rng=rng)

    def evaluations(self, n: int) -> int:
        """Return one for each step of each image that is perturbed, and what ``then`` costs."""
        return round(self.probability * n) * self.steps + self.then.evaluations(n)

    @property
    def takes_weights(self) -> bool:
        """Whether ``then`` does."""
        return self.then.takes_weights

    def _perturb(self, model: nn.Module, x: Images, y: Labels, rng: Rng) -> Images:
        count = round(self.probability * len(x))
        if count == len(x):
            return self.climb(model, x, y, start=self.uniform_start(x, rng.child("start")))
        if count == 0:
            return x
        rows = torch.randperm(len(x), generator=rng.child("which").torch_generator())[:count]
        part, rows = rng.select(rows), rows.to(x.device)
        start = self.uniform_start(x[rows], part.child("start"))
        return x.index_copy(0, rows, self.climb(model, x[rows], y[rows], start=start))
