"""What an attack wants the model to say: anything but the label, or one given class."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robust_eval.classifier import Classifier, misclassified
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Mask

__all__ = ["JUDGING_DRAWS", "Aim"]

JUDGING_DRAWS = 10
"""Draws by which an attack on a stochastic model chooses among its own points; scoring makes others."""


class Aim(NamedTuple):
    """The labels [n], and the classes to be predicted instead [n]; ``None`` is content with any other class."""

    y: Labels
    target: Labels | None = None

    def select(self, which: Tensor) -> Aim:
        """Return the aim for some of the rows: a mask or positions."""
        return Aim(self.y[which], None if self.target is None else self.target[which])

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
        if not model.stochastic:
            return self.reached(model.logits(x, rng=rng))
        draws = [model.logits(x, rng=rng.child("judge", draw)).log_softmax(1) for draw in range(JUDGING_DRAWS)]
        return self.reached(torch.stack(draws).logsumexp(0))
