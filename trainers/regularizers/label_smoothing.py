"""Fit labels that are not quite sure of themselves.

Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision",
CVPR 2016, https://arxiv.org/abs/1512.00567, section 7, with n classes:

    L = loss(f(x), (1 - a) y + a / n)

Cross-entropy is least where the logit of the true class leads all others by log((1 - a + a / n) / (a / n)).

Default: a = 0.1, the paper's. ``form`` has two more readings of "smoothed", see
:data:`trainers.fitting.Smoothing`. With cross-entropy they are the first one with another amount: ``others``
is ``uniform`` with a n / (n - 1), and ``printed``, whose targets add up to 1 - a / n only, is 1 - a / n
times ``uniform`` with a n / (n - a).

This is the method by itself, beside ERM in a table. The field ``label_smoothing`` that other regularizers
have adds the uniform form to them; this one does not have it, so that nothing is smoothed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Real
from robust_eval.methods import Regularizer
from robust_eval.mixing import soft_targets
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Weights
from trainers.fitting import Criterion, Smoothing, per_example, smooth

__all__ = ["LabelSmoothing"]


@register("regularizer", "label_smoothing")
@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(Regularizer):
    """Loss of the images as they are, with smoothed targets."""

    amount: Annotated[Real, Field(ge=0, lt=1)] = 0.1
    """Part of a target that is spread over the classes; 0 is ERM."""
    form: Smoothing = "uniform"
    """Where it goes: to all classes, to all others, or as some texts print it."""
    criterion: Criterion = "ce"
    """Cross-entropy, or binary cross-entropy on sigmoids or on the softmax."""

    def loss(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        *,
        rng: Rng,
        progress: float,
        weights: Weights | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean loss of the batch."""
        logits: Logits = model(x)
        targets = soft_targets(y, logits.shape[1]).to(logits.dtype)
        losses = per_example(self.criterion, logits, smooth(targets, self.amount, self.form))
        return (losses if weights is None else weights * losses).mean()

    @property
    def takes_weights(self) -> bool:
        """Yes."""
        return True
