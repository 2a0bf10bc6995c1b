"""Losses per example that attacks ascend."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float

from robust_eval.types import Labels, Logits

__all__ = ["best_other", "cross_entropy", "margin"]


def cross_entropy(logits: Logits, y: Labels) -> Float[torch.Tensor, " n"]:
    """Minus the log-probability of the label."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Logits, y: Labels) -> Float[torch.Tensor, " n"]:
    """Best other logit minus the label's: positive exactly where the label is not predicted."""
    return best_other(logits, y) - logits.gather(1, y[:, None])[:, 0]


def best_other(logits: Logits, y: Labels) -> Float[torch.Tensor, " n"]:
    """The largest logit among the classes that are not the label."""
    # -inf, not zero: with all logits negative a zero would win
    return logits.scatter(1, y[:, None], -torch.inf).amax(1)
