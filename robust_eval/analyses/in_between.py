"""Measure how a model behaves on the line between two images of different classes.

Zhang, Cissé, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018,
https://arxiv.org/abs/1710.09412, figure 2: for pairs of training images and λ from 0 to 1,

    x = λ x_i + (1 - λ) x_j,   miss rate = share of pairs with argmax f(x) not in {y_i, y_j},
    gradient norm = mean ‖∂l/∂x‖₂,   l = λ l(f(x), y_i) + (1 - λ) l(f(x), y_j)

with cross-entropy for l. A network trained with mixup is lower in both, most of all half way.

Defaults are ours: 200 pairs, since each costs a gradient at every λ, and λ in steps of a tenth; the paper states
neither. Deviation: it draws the norm of "the
network's gradient" without saying of which output; here it is the loss with mixed labels, that of ``mixup``.

Where there are no training images, the pairs are of the images measured. Networks that were trained to different
training errors differ at λ = 0 already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional

from robust_eval.analyses._looked_at import normal_interval
from robust_eval.classifier import Classifier, Loss, misclassified
from robust_eval.errors import DataError
from robust_eval.fields import Whole
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Batch, Passes, Plot
from robust_eval.metrics.accuracy import accuracy
from robust_eval.mixing import mix
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Labels, Logits

__all__ = ["InBetween"]

MISSED, GRADIENT = "miss rate", "gradient norm"
AT_ONCE = 256
"""Pairs held at a time: bounds memory."""


def _odd(points: int) -> int:
    if points % 2 == 0:
        raise ValueError(f"expected an odd number, so that 1/2 is among the points, got {points}")
    return points


@register("analysis", "in_between")
@dataclass(frozen=True, kw_only=True)
class InBetween(Analysis):
    """Miss rate and input gradient between pairs of images of different classes."""

    needs_training: ClassVar[bool] = True
    plot: ClassVar[Plot | None] = Plot(
        "Between two images of different classes: λ x_i + (1 - λ) x_j", x="lam", y="value", split="quantity"
    )

    pairs: Annotated[Whole, Field(ge=1)] = 200
    """How many pairs of images are drawn."""
    points: Annotated[Whole, Field(ge=3), AfterValidator(_odd)] = 11
    """Values of λ, evenly from 0 to 1, both included."""

    def look(
        self, model: Classifier, images: Batch, *, other: Batch | None, training: Batch | None, rng: Rng
    ) -> pd.DataFrame:
        """Return two rows for each pair and λ: pair, lam, quantity (miss rate or gradient norm), value.

        Raises ``DataError`` for images of one class, and for labels that the model has no output for.
        """
        x, y, _ = training if training is not None else images
        rows = rng.rows(torch.arange(self.pairs))
        i, j = _pairs(y.cpu(), rows)
        outputs = model.logits(x[:1], rng=rows.select(slice(1))).shape[1]
        if (highest := int(y.max())) >= outputs:
            raise DataError(
                f"in_between: expected labels in 0..{outputs - 1}, the outputs of the model, got label {highest}; "
                "name training images of the model's own classes (--pool, or pool = in [data])"
            )
        tables = []
        for begin in range(0, self.pairs, AT_ONCE):
            part = torch.arange(begin, min(begin + AT_ONCE, self.pairs))
            first, second = i[part].to(x.device), j[part].to(x.device)
            labels = torch.stack([y[first], y[second]], 1)
            for k, λ in enumerate(np.linspace(0, 1, self.points)):
                between, draws = mix(x[first], x[second], float(λ)), rows.select(part).child("draw", k)
                found = model.input_gradient(between, labels, _mixed_loss(float(λ)), rng=draws)
                # a classifier may give gradients beside logits that do not decide
                logits = model.logits(between, rng=draws) if model.proposes else found.logits
                missed = misclassified(logits, labels[:, 0]) & misclassified(logits, labels[:, 1])
                norms = found.gradient.double().flatten(1).norm(dim=1)
                tables += [
                    pd.DataFrame(
                        {
                            "pair": part.numpy(),
                            "lam": λ,
                            "quantity": quantity,
                            "value": values.double().cpu().numpy(),
                        }
                    )
                    for quantity, values in ((MISSED, missed), (GRADIENT, norms))
                ]
        return pd.concat(tables, ignore_index=True)

    def summary(self, table: pd.DataFrame) -> tuple[Measurement, ...]:
        """Return both quantities half way, at λ = 1/2, with intervals over pairs."""
        half = table[np.isclose(table["lam"], 0.5)]
        missed, norms = (half.loc[half["quantity"] == name, "value"] for name in (MISSED, GRADIENT))
        value, error = float(norms.mean()), float(norms.std()) / len(norms) ** 0.5
        return (
            accuracy(missed, metric="miss_rate_halfway"),
            Measurement("gradient_norm_halfway", value, *normal_interval(value, error), len(norms)),
        )

    def cost(self, images: int, classes: int) -> Passes:
        """Return a gradient and a forward pass for each pair and λ, however many images there are."""
        walked = self.pairs * self.points
        return Passes(2 * walked + 1, walked)


def _pairs(y: Labels, rng: Rng) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
    """Draw an image for each row, and another one among those of other classes: the positions of both."""
    counts = torch.bincount(y)
    if int((counts > 0).sum()) < 2:
        raise DataError(
            f"in_between: expected images of two classes at least, got {len(y)} of one; give more images (n)"
        )
    start = counts.cumsum(0) - counts
    first = rng.child("first").integers(len(y)).view(-1)
    of_class, u = y[first], rng.child("second").uniform().view(-1).double()
    # a place among the images sorted by class, without those of the first one's
    place = (u * (len(y) - counts[of_class])).long()
    place += torch.where(place >= start[of_class], counts[of_class], 0)
    return first, y.argsort(stable=True)[place]


def _mixed_loss(λ: float) -> Loss:
    def loss(logits: Logits, labels: Int[Tensor, "n 2"]) -> Tensor:
        each = [functional.cross_entropy(logits, y, reduction="none") for y in labels.unbind(1)]
        return λ * each[0] + (1 - λ) * each[1]

    return loss
