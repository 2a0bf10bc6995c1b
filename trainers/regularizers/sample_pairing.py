"""Train on averages of two images with the label of the first, now and then on plain ones.

Inoue, "Data Augmentation by Pairing Samples for Images Classification", 2018,
https://arxiv.org/abs/1801.02929:

    x' = (x_i + x_j) / 2,   y' = y_i

Images are plain at first, then pairs alternate with plain ones, 8 epochs to 2, and in the end they are plain
again. A pair does not say which of its labels is meant, so while pairs are on, no network fits more than
about half of them: do not stop early on training accuracy.

Defaults: 8 to 2 is the paper's. Its epochs are shares of the training here, so that the schedule fits any
length: ``start`` is its 100 plain epochs if there are 1000, ``cycle`` its 10 epochs if there are 200.
``stop`` is ours: the paper pairs until the loss no longer falls.

Deviation: x_j comes from a permutation of the batch and not from the whole training set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Real
from robust_eval.mixing import mix
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers.fitting import Fitting

__all__ = ["SamplePairing"]

Share = Annotated[Real, Field(ge=0, le=1)]


@register("regularizer", "sample_pairing")
@dataclass(frozen=True, kw_only=True)
class SamplePairing(Fitting):
    """Loss of averages of two images, the second without its label."""

    start: Share = 0.1
    """Share of the training before the first pair."""
    stop: Share = 0.8
    """Share of the training after which all images are plain."""
    cycle: Annotated[Real, Field(gt=0, le=1)] = 0.05
    """Length of one alternation of pairs and plain images, as a share of the training."""
    on: Share = 0.8
    """Part of each cycle, its first, that trains on pairs."""

    def __post_init__(self) -> None:
        if self.start > self.stop:
            raise ValueError(f"expected start <= stop, got start={self.start} and stop={self.stop}")

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
        """Return the mean loss of the batch, paired or not."""
        if self._pairs(progress):
            perm = torch.randperm(len(x), generator=rng.child("perm").torch_generator()).to(x.device)
            x = mix(x, x[perm], 0.5)
        logits: Logits = model(x)
        return self.fit(logits, self.targets(y, logits, weights))

    def _pairs(self, progress: float) -> bool:
        within = (progress - self.start) % self.cycle
        return self.start <= progress < self.stop and within < self.on * self.cycle
