"""Losses per example that attacks ascend.

Each is a function of logits [n,k] and labels [n]; the targeted ones take pairs of label and target [n,2].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from robust_eval.errors import ConfigError
from robust_eval.types import Labels, Logits

__all__ = [
    "LossName",
    "best_other",
    "cross_entropy",
    "dlr",
    "loss_for",
    "margin",
    "probability_margin",
    "require_classes",
    "targeted_cross_entropy",
    "targeted_dlr",
    "targeted_margin",
]

LossName = Literal["ce", "margin", "dlr"]
"""What an attack ascends: cross-entropy, difference of logits (CW), or the scaled difference of APGD."""
TINY = 1e-12
"""Keeps a quotient finite where all logits are equal."""
Pairs = Int[torch.Tensor, "n 2"]
"""The label of each example and the class it is pushed to."""


def cross_entropy(logits: Logits, y: Labels) -> Float[torch.Tensor, " n"]:
    """Minus the log-probability of the label."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Logits, y: Labels) -> Float[torch.Tensor, " n"]:
    """Best other logit minus the label's: positive exactly where the label is not predicted."""
    return best_other(logits, y) - logits.gather(1, y[:, None])[:, 0]


def probability_margin(logits: Logits, y: Labels) -> Float[torch.Tensor, " n"]:
    """The probability of the best other class minus the label's, in -1..1 (Ma et al. 2024, arXiv 2411.15210)."""
    return margin(logits.softmax(1), y)


def best_other(logits: Logits, y: Labels) -> Float[torch.Tensor, " n"]:
    """The largest logit among the classes that are not the label."""
    # -inf, not zero: with all logits negative a zero would win
    return logits.scatter(1, y[:, None], -torch.inf).amax(1)


def dlr(logits: Logits, y: Labels) -> Float[torch.Tensor, " n"]:
    """Difference of logits ratio: the margin over the distance from the first to the third largest logit.

    Croce and Hein 2020, arXiv 2003.01690, equation 6: ``-(z_y - max_{i≠y} z_i) / (z_π1 - z_π3)``. Unlike the
    cross-entropy it does not vanish when the logits are scaled. Needs three classes (:func:`require_classes`).
    """
    require_classes("dlr", logits.shape[1])
    largest = logits.topk(3, dim=1).values
    return margin(logits, y) / (largest[:, 0] - largest[:, 2] + TINY)


def targeted_cross_entropy(logits: Logits, pairs: Pairs) -> Float[torch.Tensor, " n"]:
    """The log-probability of the target."""
    return -cross_entropy(logits, pairs[:, 1])


def targeted_margin(logits: Logits, pairs: Pairs) -> Float[torch.Tensor, " n"]:
    """The target's logit minus the best other one: positive exactly where the target is predicted."""
    return -margin(logits, pairs[:, 1])


def targeted_dlr(logits: Logits, pairs: Pairs) -> Float[torch.Tensor, " n"]:
    """The ratio of :func:`dlr` for one target: ``-(z_y - z_t) / (z_π1 - (z_π3 + z_π4) / 2)`` (equation 7).

    Needs four classes.
    """
    require_classes("dlr", logits.shape[1], targeted=True)
    largest = logits.topk(4, dim=1).values
    scale = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    label, target = logits.gather(1, pairs).unbind(1)
    return (target - label) / (scale + TINY)


UNTARGETED: Mapping[LossName, Callable[..., torch.Tensor]] = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
}
TARGETED: Mapping[LossName, Callable[..., torch.Tensor]] = {
    "ce": targeted_cross_entropy,
    "margin": targeted_margin,
    "dlr": targeted_dlr,
}


def loss_for(name: LossName, *, targeted: bool = False) -> Callable[..., torch.Tensor]:
    """Return the loss of that name; a targeted one takes pairs [n,2] of label and target."""
    assert name in get_args(LossName)
    return (TARGETED if targeted else UNTARGETED)[name]


def require_classes(name: LossName, classes: int, *, targeted: bool = False) -> None:
    """Raise ``ConfigError`` where a model has fewer classes than the loss looks at."""
    needed = (4 if targeted else 3) if name == "dlr" else 2
    if classes < needed:
        words = "targeted dlr" if targeted and name == "dlr" else name
        raise ConfigError(
            f"loss {words}: expected at least {needed} classes, got a model with {classes}; use loss 'ce' or 'margin'"
        )
