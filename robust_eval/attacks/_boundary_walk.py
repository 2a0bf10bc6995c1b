"""Walks to and fro over a model's boundary: where they stand, the plane each of them sees, and what they bring home.

Several walks of each example go side by side, each to one class or to the nearest of several; the steps themselves are
those of :mod:`.fab`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from robust_eval.classifier import Classifier, misclassified
from robust_eval.geometry import dual_length
from robust_eval.losses import margin
from robust_eval.rng import Rng
from robust_eval.threat import Ball
from robust_eval.types import Images, Labels, Logits, Mask

__all__ = [
    "Chosen",
    "Outcome",
    "Plane",
    "Walks",
    "clearly_fooled",
    "in_parts",
    "nearest_plane",
    "other_classes",
]

Points = Float[Tensor, "n g d"]
"""Flattened images: ``g`` walks of each of ``n`` examples."""
Chosen = Bool[Tensor, "n g"]
Classes = Int[Tensor, "n g m"]
"""The classes whose planes each walk looks at."""
ROUNDING = 8
"""Units in the last place of the largest logit; a walk comes nearer to the boundary than that."""
NEAR, MISTRUST = 0.02, 4.0
"""The lead over the spread of the logits that low precision must see to decide, and how many of its errors there. On
an adversarially trained net the error was 0.0055 at most (64 walks, 16 steps)."""
MOST = 2**25
"""Pixels of all points, or of all gradients, that are worked on at once."""


@dataclass
class Walks:
    """Walks on their way: ``g`` of each of ``n`` examples, and the point that each keeps for the end."""

    shape: torch.Size
    rows: Int[Tensor, " n"]
    """Which examples of the batch these are."""
    image: Float[Tensor, "n 1 d"]
    y: Labels
    classes: Classes
    at: Points
    exact: Float[Tensor, "n g c"]
    """The logits there at full precision, NaN where they are not known."""
    kept: Points
    merit: Float[Tensor, "n g"]
    doubt: Float[Tensor, "n g"]
    """Lead of a class over the spread of the logits below which low precision does not decide."""

    @staticmethod
    def begin(x: Images, y: Labels, classes: Classes, logits: Logits) -> Walks:
        """Return walks that are all at the image, and keep it; the logits are those there."""
        rows, image, g = torch.arange(len(x), device=x.device), x.flatten(1)[:, None], classes.shape[1]
        at, exact = image.repeat(1, g, 1), logits[:, None].repeat(1, g, 1)
        merit, doubt = at.new_full(at.shape[:2], -torch.inf), at.new_full(at.shape[:2], NEAR)
        return Walks(x.shape[1:], rows, image, y, classes, at, exact, at, merit, doubt)

    def start_at(self, x: Images) -> None:
        """Move the walks of each example to another point."""
        self.at = x.flatten(1)[:, None].expand_as(self.at)
        self.exact = torch.full_like(self.exact, torch.nan)

    def select(self, which: Mask) -> Walks:
        """Return the walks of some of the examples."""
        tensors = (self.rows, self.image, self.y, self.classes, self.at, self.exact, self.kept)
        return Walks(self.shape, *(tensor[which] for tensor in (*tensors, self.merit, self.doubt)))

    def keep(self, better: Chosen, merit: Float[Tensor, "n g"], points: Points) -> None:
        """Keep these points instead, with what makes them better, where they are."""
        self.merit[better], self.kept[better] = merit[better], points[better]

    def images(self, points: Float[Tensor, "*rows d"]) -> Images:
        """Return flattened points in the shape of images, all in a row."""
        return points.reshape(-1, *self.shape)

    def streams(self, rng: Rng) -> Rng:
        """Return the stream of each walk, given those of the examples; an example's walks share theirs."""
        n, walks = self.at.shape[:2]
        return rng.select(torch.arange(n).repeat_interleave(walks))

    @property
    def labels(self) -> Labels:
        """The label of each walk."""
        return self.y.repeat_interleave(self.at.shape[1])

    def ask(self, model: Callable[..., Logits], points: Points, rng: Rng) -> Float[Tensor, "rows _"]:
        """Return the logits at these points, in a row."""
        return model(self.images(points), rng=self.streams(rng))

    def judge(self, model: Classifier, counts: Chosen, rng: Rng) -> Chosen:
        """Return which walks are where the model is fooled, and keep the exact logits that were asked for.

        Low precision decides where it is beyond doubt, and full precision near the boundary and wherever success there
        ``counts``. What is doubted grows with the errors that are met.
        """
        points, streams, labels = self.images(self.at), self.streams(rng), self.labels
        if not model.proposes or model.decides is not None:
            logits = model.logits(points, rng=streams)
            self.exact = logits.view(*self.merit.shape, -1)
            return clearly_fooled(logits, labels).view_as(self.merit)
        low = model.proposal(points, rng=streams)
        lead, fooled = margin(low, labels) / _spread(low), misclassified(low, labels)
        beyond = lead.abs() > self.doubt.flatten()  # NaN is not
        rows = (~beyond | (fooled & counts.flatten())).nonzero()[:, 0]
        exact = torch.full_like(low, torch.nan)
        if len(rows):
            exact[rows] = model.logits(points[rows], rng=streams.select(rows))
            fooled[rows] = clearly_fooled(exact[rows], labels[rows])
            error = (margin(exact[rows], labels[rows]) / _spread(exact[rows]) - lead[rows]).abs()
            doubt = self.doubt.flatten()
            doubt[rows] = torch.maximum(doubt[rows], (MISTRUST * error).nan_to_num(nan=torch.inf))
            self.doubt = doubt.view_as(self.doubt)
        self.exact = exact.view(*self.merit.shape, -1)
        return fooled.view_as(self.merit)

    def losses(self, model: Callable[..., Logits], points: Points, rng: Rng) -> Float[Tensor, "n g"]:
        """Return the margins at these points: infinite where the model's answer is not a number."""
        logits = self.ask(model, points, rng)
        loss = torch.where(logits.amax(1).isfinite(), margin(logits, self.labels), torch.inf)
        return loss.to(points.dtype).view_as(self.merit)


@dataclass
class Outcome:
    """What will be handed back, with the loss by which it was chosen."""

    x_adv: Images
    step: Int[Tensor, " n"]
    loss: Float[Tensor, " n"]

    @staticmethod
    def nothing(x: Images) -> Outcome:
        """Return the images themselves, chosen by nothing."""
        return Outcome(x.clone(), x.new_full((len(x),), -1).long(), x.new_full((len(x),), -torch.inf))

    def write(self, rows: Tensor, x_adv: Images, step: Tensor | int, loss: Tensor | float) -> None:
        """Write down what was found for some of the examples."""
        self.x_adv[rows], self.step[rows], self.loss[rows] = x_adv, step, loss

    def improve(self, rows: Int[Tensor, " n"], other: Outcome, *, steps_before: int) -> None:
        """Take over what has the higher loss."""
        better = other.loss > self.loss[rows]
        step = torch.where(other.step >= 0, other.step + steps_before, -1)
        self.write(rows[better], other.x_adv[better], step[better], other.loss[better])


class Plane(NamedTuple):
    """Where two logits are equal, as far as the gradient at a point can tell."""

    gap: Float[Tensor, " rows"]
    """What is missing along the normal."""
    normal: Float[Tensor, "rows d"]


def in_parts(rows: Int[Tensor, " rows"], model: Classifier, x: Images, *, walks: int) -> Iterator[Tensor]:
    """Yield the rows in parts: where each walks several ways at once, fewer of them fill a batch."""
    together = max(model.batch_size, min(len(x), MOST // x.shape[1:].numel()))
    size = max(1, together // walks)
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def nearest_plane(model: Classifier, walks: Walks, norm: Ball, rng: Rng) -> Plane:
    """Return the plane to which each walk has the shortest way."""
    x, y, classes, exact = (
        walks.images(walks.at),
        walks.labels,
        walks.classes.flatten(0, 1),
        walks.exact.flatten(0, 1),
    )
    if classes.shape[1] == 1:
        pairs = torch.stack([y, classes[:, 0]], 1)
        logits, gradient = model.input_gradient(x, pairs, _lead, rng=rng)
        plane = Plane(-_lead(_best_known(model, logits, exact), pairs), gradient.flatten(1))
    else:
        size = max(1, min(model.batch_size, MOST // (classes.shape[1] * walks.shape.numel())))
        # the gradients of thousands of classes do not fit even for one image
        width = max(1, MOST // walks.shape.numel())
        parts = []
        for first in range(0, len(x), size):
            part, best = slice(first, first + size), None
            for some in torch.split(classes[part], width, dim=1):
                logits, gradients = model.jacobian(x[part], some, minus=y[part], rng=rng.select(part))
                logits = _best_known(model, logits, exact[part])
                found = _nearest_of_all(logits, gradients.flatten(2), y[part], some, norm)
                best = found if best is None else _nearer(best, found, norm)
            assert best is not None
            parts.append(best)
        plane = Plane(*map(torch.cat, zip(*parts, strict=True)))
    # a model that answers with NaN has no plane: the walk stays where it is
    known = plane.gap.isfinite()
    gap = torch.where(known, plane.gap, 0).to(x.dtype)
    return Plane(gap, torch.where(known[:, None], plane.normal, 0))


def _spread(logits: Logits) -> Float[Tensor, " n"]:
    return logits.amax(1) - logits.amin(1)


def _best_known(model: Classifier, logits: Logits, exact: Logits) -> Logits:
    """Return the exact logits where they are known, if those beside the gradient are not exact themselves."""
    return torch.where(exact.isnan(), logits, exact) if model.proposes else logits


def _nearest_of_all(
    logits: Logits, normals: Float[Tensor, "n m d"], y: Labels, classes: Int[Tensor, "n m"], norm: Ball
) -> Plane:
    gaps = logits.gather(1, y[:, None]) - logits.gather(1, classes)
    # a class whose gradient equals the label's is out of reach, not at distance 0 / 0
    nearest = _ways(gaps, normals, norm).argmin(1)
    everyone = torch.arange(len(logits), device=logits.device)
    return Plane(gaps[everyone, nearest], normals[everyone, nearest])


def _ways(gaps: Tensor, normals: Tensor, norm: Ball) -> Tensor:
    return (gaps.abs() / dual_length(normals, norm)).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _nearer(best: Plane, found: Plane, norm: Ball) -> Plane:
    """Return the nearer of two planes of each walk; the first where both are as near."""
    take = _ways(found.gap, found.normal, norm) < _ways(best.gap, best.normal, norm)
    return Plane(
        torch.where(take, found.gap, best.gap), torch.where(take[:, None], found.normal, best.normal)
    )


def clearly_fooled(logits: Logits, y: Labels) -> Mask:
    """Return where the label is not predicted, by more than the rounding of another batch size could undo."""
    rounding = ROUNDING * torch.finfo(logits.dtype).eps * logits.abs().amax(1)
    return misclassified(logits, y) & ~(margin(logits, y) < rounding)


def _lead(logits: Logits, pairs: Int[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """How far the target is before the label."""
    label, target = logits.gather(1, pairs).unbind(1)
    return target - label


def other_classes(logits: Logits, y: Labels) -> Int[Tensor, "n m"]:
    """Return the classes that are not the label, the likeliest first."""
    return logits.scatter(1, y[:, None], -torch.inf).topk(logits.shape[1] - 1, dim=1).indices
