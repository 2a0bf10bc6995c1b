"""Says how far logits are from targets: the loss that regularizers share, whatever they do to images and labels.

A target is a row of class probabilities; weighted ones are multiplied by the weight of their image and carry it in one
more column. Three losses of the papers: softmax cross-entropy, and the two readings of
"binary cross-entropy", on sigmoids and on the softmax. They are no substitutes for each other: averaged over n classes
the binary losses have gradients about n times smaller, so a learning rate does not carry over. Each is affine in the
target, so mixing targets and mixing losses are the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from robust_eval.fields import Real
from robust_eval.methods import Regularizer
from robust_eval.mixing import soft_targets
from robust_eval.types import Labels, Logits, Weights

__all__ = ["Criterion", "Fitting", "Smoothing", "per_example", "smooth"]

Criterion = Literal["ce", "bce", "bce_softmax"]
"""``ce``: ``-sum_c t_c log softmax(o)_c``. ``bce``: mean over the classes of ``-t log p - (1 - t) log(1 - p)`` with
``p = sigmoid(o)``; ``bce_softmax``: the same with ``p = softmax(o)``, as the manifold mixup family has it."""

Smoothing = Literal["uniform", "others", "printed"]
"""Where the smoothed part ``a`` of a target goes, with n classes. ``uniform``: ``(1 - a) t + a / n`` (Szegedy et al.
2016, arXiv 1512.00567, section 7). ``others``: ``(1 - a) t + a / (n - 1) (1 - t)``. ``printed``:
``(1 - a) t + a / n (1 - t)``, which some texts have; it adds up to ``1 - a / n`` only."""

Targets = Float[Tensor, "n k"]
Weighted = Float[Tensor, "n _columns"]
"""Targets, with one more column where they carry weights."""
AnyLogits = Float[Tensor, "_ k"]


def per_example(criterion: Criterion, logits: Logits, targets: Targets) -> Float[Tensor, " n"]:
    """Return the loss of each example, in float32 at least."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if criterion == "ce":
        return functional.cross_entropy(logits, targets, reduction="none")
    if criterion == "bce":
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    log_p = functional.log_softmax(logits, 1)
    # the slope of log(1 - p) is infinite at p = 1, where float32 cannot tell p from 1 any more
    log_q = torch.log(-torch.expm1(log_p.clamp(max=-1e-7)))
    return -(targets * log_p + (1 - targets) * log_q).mean(1)


def smooth(targets: Targets, amount: float, form: Smoothing = "uniform") -> Targets:
    """Return targets of which ``amount`` is spread over the classes; 0 returns them unchanged."""
    if amount == 0:
        return targets
    classes = targets.shape[1]
    if form == "uniform":
        return (1 - amount) * targets + amount / classes
    return (1 - amount) * targets + amount / (classes - (form == "others")) * (1 - targets)


@dataclass(frozen=True, kw_only=True)
class Fitting(Regularizer):
    """A regularizer that fits targets: what it shares with all others that do."""

    criterion: Criterion = "ce"
    """Cross-entropy, or binary cross-entropy on sigmoids or on the softmax."""
    label_smoothing: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Part of every target that is spread evenly over all classes."""

    @property
    def takes_weights(self) -> bool:
        """Yes: a target carries the weight of its image wherever it is mixed."""
        return True

    def targets(self, y: Labels, logits: AnyLogits, weights: Weights | None = None) -> Weighted:
        """Return labels as rows of probabilities, one for each class of the logits.

        With ``weights``, rows are multiplied by them and have one more column, the weight: mixed with other rows, they
        stay the sum of what each label counts for.
        """
        rows = soft_targets(y, logits.shape[1]).to(torch.promote_types(logits.dtype, torch.float32))
        if weights is None:
            return rows
        column = weights.to(rows)[:, None]
        return torch.cat([rows * column, column], 1)

    def each(self, logits: Logits, targets: Weighted) -> Float[Tensor, " n"]:
        """Return the loss of each example, times its weight where targets carry one."""
        if targets.shape[1] == logits.shape[1]:
            return per_example(self.criterion, logits, smooth(targets, self.label_smoothing))
        weight = targets[:, -1]
        # a row of weight 0 is all zeros, and counts for nothing
        shares = targets[:, :-1] / weight.clamp(min=torch.finfo(weight.dtype).tiny)[:, None]
        return weight * per_example(self.criterion, logits, smooth(shares, self.label_smoothing))

    def fit(self, logits: Logits, targets: Weighted) -> Float[Tensor, ""]:
        """Return the mean loss of the batch."""
        return self.each(logits, targets).mean()
