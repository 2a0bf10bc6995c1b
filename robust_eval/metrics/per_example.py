"""What is measured of the answer to each image: each metric is a column of a record's rows and, by its mean, a number.

A new one is a function and a line in :data:`PER_EXAMPLE`. All are given probabilities that sum to 1, averaged over the
draws of a stochastic model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.types import Labels

__all__ = ["PER_EXAMPLE", "PerExample", "per_example"]


class PerExample(NamedTuple):
    """A metric of single answers."""

    column: Callable[[Float[Tensor, "n k"], Labels], Tensor]
    words: str
    """What a report calls it."""
    mean: bool = True
    """Whether its mean over the images is a number of the record, with the normal interval of a mean."""


def per_example(probabilities: Float[Tensor, "n k"], y: Labels) -> dict[str, Tensor]:
    """Return each metric of probabilities [n,k] with labels [n] as a column [n], by its name."""
    return {name: metric.column(probabilities, y) for name, metric in PER_EXAMPLE.items()}


def negative_log_likelihood(probabilities: Float[Tensor, "n k"], y: Labels) -> Float[Tensor, " n"]:
    """Return it in nats: at most 708 for float64 and 87 for float32, where smaller probabilities round to 0."""
    label = _finite(probabilities).gather(1, y[:, None])[:, 0]
    return -label.clamp(min=torch.finfo(label.dtype).tiny).double().log()


def brier_score(probabilities: Float[Tensor, "n k"], y: Labels) -> Float[Tensor, " n"]:
    """Return the squared distance to the label's one-hot vector, in [0, 2]: 2 where an answer is not finite."""
    p = _finite(probabilities).double()
    label = p.gather(1, y[:, None])[:, 0]
    missed = p.square().sum(1) - label.square() + (1 - label).square()
    # no answer is as bad as a certain one that is wrong
    return torch.where(probabilities.isfinite().all(1), missed, 2.0)


def rank_of_label(probabilities: Float[Tensor, "n k"], y: Labels) -> Labels:
    """Return how many classes stand before the label's, 0 for the most probable one; equal ones in their order."""
    p = _finite(probabilities)
    label, classes = p.gather(1, y[:, None]), torch.arange(p.shape[1], device=p.device)
    before = (p > label) | ((p == label) & (classes < y[:, None]))
    return torch.where(probabilities.isfinite().all(1), before.sum(1), p.shape[1] - 1)


def _finite(probabilities: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    return torch.where(probabilities.isfinite().all(1)[:, None], probabilities, 0)


PER_EXAMPLE: dict[str, PerExample] = {
    "nll": PerExample(negative_log_likelihood, "NLL"),
    "brier": PerExample(brier_score, "Brier score"),
    "rank": PerExample(rank_of_label, "rank of the label", mean=False),  # from which top-k accuracy is taken
}
"""By the name of the column, in the order of the columns."""
