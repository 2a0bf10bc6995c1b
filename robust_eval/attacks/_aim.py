"""What an attack wants the model to say: anything but the label, or one given class."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.classifier import Classifier, misclassified
from robust_eval.errors import ConfigError
from robust_eval.fields import Whole
from robust_eval.losses import margin
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Mask

__all__ = [
    "JUDGING_DRAWS",
    "Aim",
    "Target",
    "choose_aim",
    "mean_log_probability",
    "mean_probability_margin",
]

Target = Literal["next", "least_likely", "random"] | Annotated[Whole, Field(ge=0)]
"""The class an attack pushes to: the one after the label, the least likely one on the clean image, one drawn at random
that is not the label, or this one for all."""

JUDGING_DRAWS = 10
"""Draws by which an attack on a stochastic model chooses among its own points; scoring makes others."""


class Aim(NamedTuple):
    """The labels [n], and the classes to be predicted instead [n]; ``None`` is content with any other class."""

    y: Labels
    target: Labels | None = None

    def select(self, which: Tensor) -> Aim:
        """Return the aim for some of the rows: a mask or positions."""
        return Aim(self.y[which], None if self.target is None else self.target[which])

    @property
    def labels(self) -> Int[Tensor, "n ..."]:
        """What the loss looks up: labels [n], or pairs of label and target [n,2]."""
        return self.y if self.target is None else torch.stack([self.y, self.target], 1)

    def reached(self, logits: Logits) -> Mask:
        """Return where these logits are what is wanted; NaN or infinity on top reaches no target."""
        if self.target is None:
            return misclassified(logits, self.y)
        return ~misclassified(logits, self.target)

    def confirmed(self, model: Classifier, x: Images, logits: Logits, *, rng: Rng) -> Mask:
        """Return where the aim is reached at ``x``, whose ``logits`` came with a gradient.

        Where gradients are computed in low precision, those logits only propose: each point they call reached is
        asked again at full precision. For a deterministic model; a stochastic one is asked by :meth:`holds`.
        """
        proposed = self.reached(logits)
        if not model.proposes:
            return proposed
        rows = proposed.nonzero()[:, 0]
        if len(rows):
            exact = model.logits(x[rows], rng=rng.select(rows))
            proposed[rows] = self.select(rows).reached(exact)
        return proposed

    def holds(self, model: Classifier, x: Images, *, rng: Rng) -> Mask:
        """Return where the aim is reached at ``x`` at full precision, by probabilities averaged over several fresh
        draws if the model is stochastic.
        """
        return self.reached(mean_log_probability(model, x, rng=rng.child("judge")))


def mean_log_probability(model: Classifier, x: Images, *, rng: Rng, draws: int = JUDGING_DRAWS) -> Logits:
    """Return logits at full precision; for a stochastic model the log of its probability averaged over so many fresh
    draws, up to a constant.
    """
    if not model.stochastic:
        return model.logits(x, rng=rng)
    calls = range(model.calls(draws))
    each = [model.logits(x, rng=rng.child(draw)).log_softmax(1) for draw in calls]
    return torch.stack(each).logsumexp(0)


def mean_probability_margin(model: Classifier, x: Images, y: Labels, *, rng: Rng) -> Float[Tensor, " n"]:
    """Return the margin by which another class beats the label at ``x``, judged as by :meth:`Aim.holds`."""
    value = margin(mean_log_probability(model, x, rng=rng.child("draw")), y)
    # an output with NaN predicts nothing
    return torch.where(value.isnan(), torch.inf, value)


def choose_aim(model: Classifier, x: Images, y: Labels, target: Target | None, *, rng: Rng) -> Aim:
    """Return the aim of an attack on a batch.

    Raises ``ConfigError`` for a class that the model does not have, or that is the label of an example.
    """
    if target is None:
        return Aim(y)
    logits = model.logits(x, rng=rng.child("target"))
    classes = logits.shape[1]
    if target == "next":
        return Aim(y, (y + 1) % classes)
    if target == "least_likely":
        return Aim(y, logits.scatter(1, y[:, None], torch.inf).argmin(1))
    if target == "random":
        return Aim(y, (y + 1 + rng.child("target").integers(classes - 1, device=y.device)) % classes)
    if target >= classes:
        raise ConfigError(f"target: expected a class in 0..{classes - 1}, got {target}")
    same = int((y == target).sum())
    if same:
        raise ConfigError(
            f"target: expected a class that is not the label, got {target}, the label of {same} of {len(y)} examples; "
            "leave them out, or use 'next', 'least_likely' or 'random'"
        )
    return Aim(y, torch.full_like(y, target))
