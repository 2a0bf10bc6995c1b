"""Train on the images that all others of their class are nearest to, weighted by how many those are.

Facility location, per (given, possibly wrong) class c with distances d_ij between what the network makes of its images:

    S_c = argmax over |S| = ceil(ratio n_c) of  sum_i max_{j in S} (d_max - d_ij)
    w_j = |{i: j is the pick nearest to i}|

by greedy, which is within 1 - 1/e of the best (Nemhauser, Wolsey and Fisher 1978); the idea of training on weighted
representatives of gradients is CRAIG's (Mirzasoleiman, Bilmes and Leskovec, ICML 2020, https://arxiv.org/abs/1906.01827).
Before each pass all training images go through the network once, not augmented and in eval mode, and S is found anew.
The pass takes the picks in greedy order, the classes in turn; a step minimises

    sum_b w_b loss_b / sum_b w_b

Modes of the experiment on noisy labels: this; ``weighted = false`` (the picks, all alike); ``set_cover`` with
``weighted_only`` (all images, weighted by how many are near); ``shuffled`` (all, all alike).

Defaults: half of each class, distances of features, a new selection for each pass.

Choices where the description is silent: the weights of a step are normalised over its batch; ``final_ratio`` (its
future work) grows the ratio linearly over the training. What it calls distances of gradients cannot be those in the
logits, as its radii exceed the largest of them: ``space`` offers the three readings. A pass costs a forward pass over
all images (n / 3 network evaluations), the distances of each class (n_c^2) and ratio n images of training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from robust_eval.errors import ConfigError
from robust_eval.fields import Real
from robust_eval.methods import FORWARD, Order, Task, Trial
from robust_eval.registry import register
from robust_eval.rng import Rng
from trainers.curricula._facility import count_of, facility_location
from trainers.curricula._selected import Laid, Selecting, Selection, by_class, order_of

__all__ = ["FacilityLocation"]

Ratio = Annotated[Real, Field(gt=0, le=1)]


@register("curriculum", "facility_location")
@dataclass(frozen=True, kw_only=True)
class FacilityLocation(Selecting):
    """Representatives of each class."""

    ratio: Ratio = 0.5
    """Share of each class that is picked."""
    final_ratio: Ratio | None = None
    """The share at the end of the training, to which it goes linearly; ``None`` keeps it."""
    weighted: bool = True
    """Whether a pick counts as many images as it serves."""

    def __post_init__(self) -> None:
        if self.final_ratio is not None and self.every == 0:
            raise ConfigError("final_ratio: expected every of at least 1 with a ratio that changes, got 0")

    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` for a class without images."""
        return order_of(self, task, "facility_location")

    @property
    def weighs(self) -> bool:
        """Whether picks are weighted."""
        return self.weighted

    def evaluations(self, task: Task) -> float:
        """Return the forward passes over all images, spread over the steps of a pass; the first passes are left out."""
        first, last = self.ratio, self.ratio if self.final_ratio is None else self.final_ratio
        # passes of a shorter selection come more often: the mean of 1 / ratio over the steps
        mean = 1 / first if first == last else math.log(last / first) / (last - first)
        return FORWARD * task.batch_size * mean / self.every if self.every else 0.0

    def select(self, trial: Trial, task: Task, *, first: bool) -> Selection:
        """Return the picks of each class in greedy order."""
        ratio = self.ratio
        if self.final_ratio is not None:
            # a whole number must not be a rounding above itself
            ratio = round(ratio + (self.final_ratio - ratio) * min(trial.progress, 1.0), 9)
        rows, weights, groups = [], [], []
        for label, (own, vectors) in enumerate(by_class(trial, task, self.space)):
            found = facility_location(vectors, count_of(ratio, len(own)))
            rows.append(own[found.picks])
            weights.append(found.weights.float())
            groups.append(torch.full_like(found.picks, label))
        return Selection(torch.cat(rows), torch.cat(weights), torch.cat(groups))

    def lay(self, selection: Selection, rng: Rng) -> Laid:
        """Return the first pick of each class, then the second of each, and so on."""
        place = torch.cat([torch.arange(int(count)) for count in torch.bincount(selection.group)])
        order = (place * (int(selection.group.max()) + 1) + selection.group).argsort()
        return Laid(selection.rows[order], selection.weights[order])
