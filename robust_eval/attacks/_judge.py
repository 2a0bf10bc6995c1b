"""Whether a point fools a model: one look at a deterministic one, several fresh draws of a stochastic one."""

from __future__ import annotations

import torch

from robust_eval.classifier import Classifier, misclassified
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Mask

__all__ = ["JUDGING_DRAWS", "fools"]

JUDGING_DRAWS = 10
"""Draws by which an attack on a stochastic model chooses among its own points; scoring makes others."""


def fools(model: Classifier, x: Images, y: Labels, rng: Rng) -> Mask:
    """Return where the model's prediction, by probabilities averaged over draws, is not the label."""
    if not model.stochastic:
        return misclassified(model.logits(x, rng=rng), y)
    draws = [model.logits(x, rng=rng.child("judge", draw)).log_softmax(1) for draw in range(JUDGING_DRAWS)]
    return misclassified(torch.stack(draws).logsumexp(0), y)
