"""Train on one random image of each of the balls that cover a class, weighted by how many images it covers.

Set cover, per (given, possibly wrong) class, of what the network makes of its images: with N(i) = {j: |v_i - v_j| <= r}
pick the image with most uncovered neighbours, cover them, and go on until all are covered (greedy, within 1 + ln n of
the fewest picks, Chvatal 1979). Each pass trains on one image of each set of newly covered ones, drawn anew, in random
order, with their number as its weight; a step minimises

    sum_b w_b loss_b / sum_b w_b

``weighted_only`` trains on all images, each weighted by |N(i)|, the density of the ball around it.

The radius is absolute, or the distance that a share of the pairs of each class is within, or, for each class, the least
of a ladder of distances with which a ``ratio`` of its images covers it: distances have the scale of the network's
features. The description's network is trained already: give ``start`` for that. Defaults are ours: the radius of a
thousandth of the pairs, one shuffled pass, and then a selection that stays (``every = 0``).

Choices where it is silent: classes are covered one by one, for a ball over several would mix labels; the weights of a
step are normalised over its batch. A selection costs a forward pass over all images (n / 3 network evaluations).
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from robust_eval.errors import ConfigError
from robust_eval.fields import Real, Whole
from robust_eval.methods import FORWARD, Order, Task, Trial
from robust_eval.registry import register
from robust_eval.rng import Rng
from trainers.curricula._cover import densities, set_cover
from trainers.curricula._facility import count_of
from trainers.curricula._selected import Laid, Selecting, Selection, by_class, order_of
from trainers.curricula._vectors import Vectors, quantiles

__all__ = ["SetCover"]

log = logging.getLogger(__name__)

LADDER = [2.0 ** (i / 8) for i in range(-160, 1)]
"""Shares of the pairs whose distances are tried as a radius."""
SHOWN = (0.0, 0.01, 0.1, 0.5, 1.0)
"""Shares of the pairs whose distances a message gives."""


@register("curriculum", "set_cover")
@dataclass(frozen=True, kw_only=True)
class SetCover(Selecting):
    """One image of each ball."""

    radius: Annotated[Real, Field(ge=0)] | None = None
    """Radius of the balls, in units of the space; ``None`` goes by ``share``."""
    share: Annotated[Real, Field(gt=0, lt=1)] = 0.001
    """Share of the pairs of a class that are within the radius, where none is given."""
    ratio: Annotated[Real, Field(gt=0, le=1)] | None = None
    """Share of the images of a class that its balls are at most, which sets their radius."""
    weighted: bool = True
    """Whether an image counts as many as its ball newly covers."""
    weighted_only: bool = False
    """Whether all images are trained on, weighted by the density around them."""
    after: Annotated[Whole, Field(ge=0)] = 1
    every: Annotated[Whole, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.ratio is not None and (self.radius is not None or self.weighted_only):
            raise ConfigError(
                "ratio: expected neither radius nor weighted_only with it, which it decides or needs not"
            )
        if self.weighted_only and not self.weighted:
            raise ConfigError(
                "weighted_only: expected weighted = true with it, got false; without either it is shuffled"
            )

    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` for a class without images."""
        return order_of(self, task, "set_cover")

    @property
    def weighs(self) -> bool:
        """Whether images are weighted."""
        return self.weighted

    def evaluations(self, task: Task) -> float:
        """Return the forward passes over all images, spread over the steps of a pass over as many.

        How many balls there will be nobody knows, but for their ``ratio``: with few of them, passes are shorter and
        selections more frequent.
        """
        return FORWARD * task.batch_size / (self.ratio or 1.0) / self.every if self.every else 0.0

    def select(self, trial: Trial, task: Task, *, first: bool) -> Selection:
        """Return all images with their clusters, numbered over all classes, and what a cluster counts.

        Raises ``ConfigError`` where the balls leave no choice: each class is covered by one, or each image by its own.
        After the ``first`` time that is told, not refused: distances change in training.
        """
        weights, group = torch.empty(len(task.labels)), torch.empty(len(task.labels), dtype=torch.long)
        clusters, shown = 0, (0, "")
        for rows, vectors in by_class(trial, task, self.space):
            radius = self._radius(vectors, task.rng)
            if len(rows) > shown[0]:
                shown = len(rows), _distances(vectors, task.rng)
            if self.weighted_only:
                weights[rows], group[rows] = (
                    densities(vectors, radius).float(),
                    clusters + torch.arange(len(rows)),
                )
                clusters += len(rows)
                continue
            cover = set_cover(vectors, radius)
            weights[rows] = cover.weights[cover.cluster].float()
            group[rows] = clusters + cover.cluster
            clusters += len(cover.picks)
        if self.ratio is None and (what := self._without_choice(weights, task)):
            field = "share" if self.radius is None else "radius"
            text = (
                f"set_cover: {field}: expected balls that leave a choice, got {getattr(self, field):g}, with "
                f"which {what}; distances in the largest class are {shown[1]} (0, 1, 10, 50, 100 % of the pairs)"
            )
            if first:
                raise ConfigError(f"{text} and change in training: give ratio, or a share in between")
            log.warning("%s", text)
        return Selection(torch.arange(len(task.labels)), weights, group)

    def lay(self, selection: Selection, rng: Rng) -> Laid:
        """Return one random image of each cluster, in random order."""
        shuffled = torch.randperm(len(selection.rows), generator=rng.torch_generator())
        first = _first_of_each(selection.group[shuffled])
        chosen = shuffled[first]
        return Laid(selection.rows[chosen], selection.weights[chosen])

    def _radius(self, vectors: Vectors, rng: Rng) -> float:
        if self.radius is not None:
            return self.radius
        if self.ratio is None:
            return quantiles(vectors, [self.share], rng=rng)[0]
        # by halving: the number of balls falls with the radius, but for what greedy misses
        ladder, most = [0.0, *quantiles(vectors, LADDER, rng=rng)], count_of(self.ratio, len(vectors))
        return ladder[
            bisect_left(
                range(len(ladder) - 1), True, key=lambda i: len(set_cover(vectors, ladder[i]).picks) <= most
            )
        ]

    def _without_choice(self, weights: Tensor, task: Task) -> str:
        """Return what leaves no choice; nothing if there is one."""
        whole = torch.bincount(task.labels, minlength=task.classes)[task.labels]
        if bool((weights == whole).all()):
            return "one ball covers each class"
        return "each image is covered by its own ball alone" if bool((weights == 1).all()) else ""


def _first_of_each(group: Int[Tensor, " m"]) -> Int[Tensor, " c"]:
    """Return where each group comes first, in order."""
    order = group.argsort(stable=True)
    begins = torch.ones_like(order, dtype=torch.bool)
    begins[1:] = group[order].diff() != 0
    return order[begins].sort().values


def _distances(vectors: Vectors, rng: Rng) -> str:
    return ", ".join(f"{value:.3g}" for value in quantiles(vectors, SHOWN, rng=rng))
