"""Measure how well a model tells images that are none of its classes from its own, by its logits.

Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", ICLR
2017, https://arxiv.org/abs/1610.02136, with the measures of Liang, Li and Srikant 2018 (ODIN,
https://arxiv.org/abs/1706.02690). Measures and their papers are in :mod:`robust_eval.metrics.detection`; the model's
own images are the positives. The other set may be any, its labels are not looked at; ``uniform`` and ``gaussian`` are
noise.

Intervals are percentiles of a bootstrap over both sets, which is the same for every model; there are none where a set
has fewer than eight images. A stochastic model is asked
once about each image.

A limit: images that had to be resized may be told by that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from robust_eval.analyses._looked_at import compared
from robust_eval.classifier import Classifier
from robust_eval.fields import Whole
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Batch, Plot
from robust_eval.metrics.detection import measure
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Logits

__all__ = ["SCORES", "Detection", "scored"]

FEW = 8
"""Images of a set from which resamples tell anything about it."""


@register("analysis", "detection")
@dataclass(frozen=True, kw_only=True)
class Detection(Analysis):
    """Measures of detection out of distribution by three scores of the logits."""

    compares: ClassVar[bool] = True
    plot: ClassVar[Plot | None] = Plot(
        "Confidence (log-odds of the predicted class) on the model's own images (in) and on others (out)",
        x="max_softmax",
        y="share of images",
        split="set",
    )

    resamples: Annotated[Whole, Field(ge=1)] = 1000
    """Of the bootstrap."""

    def look(
        self, model: Classifier, images: Batch, *, other: Batch | None, training: Batch | None, rng: Rng
    ) -> pd.DataFrame:
        """Return one row for each image: set (in or out), index and each score, high for the model's own.

        Raises ``DataError`` for a second set that is missing or of another shape.
        """
        sets = {"in": images.x, "out": compared("detection", images, other).x}
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "set": name,
                        "index": np.arange(len(x)),
                        **scored(model, x, rng=rng.rows(torch.arange(len(x))).child(name)),
                    }
                )
                for name, x in sets.items()
            ],
            ignore_index=True,
        )

    def summary(self, table: pd.DataFrame) -> tuple[Measurement, ...]:
        """Return the measures of each score, such as ``auroc_energy``; ``n`` counts the other images."""
        own, others = (table[table["set"] == name] for name in ("in", "out"))
        scores = {name: (own[name].to_numpy(), others[name].to_numpy()) for name in SCORES}
        found = measure(scores, rng=Rng(0).child("bootstrap"), resamples=self.resamples)
        known = min(len(own), len(others)) >= FEW
        return tuple(
            Measurement(f"{metric}_{score}", value, low if known else None, high if known else None, n)
            for score, metric, value, low, high, _, n in found.itertuples(index=False)
        )


SCORES: Mapping[str, Callable[[Logits], Float[Tensor, " n"]]] = {
    "max_softmax": lambda z: _log_odds(z.double()),
    "energy": lambda z: z.double().logsumexp(1),
    "max_logit": lambda z: z.double().amax(1),
}


def scored(model: Classifier, x: Images, *, rng: Rng) -> dict[str, NDArray[Any]]:
    """Return each score of images [n,c,h,w] in [0, 1], in float64: -inf where an output is not finite."""
    logits = model.logits(x, rng=rng)
    finite = logits.isfinite().all(1)
    return {
        name: torch.where(finite, score(logits), -torch.inf).cpu().numpy() for name, score in SCORES.items()
    }


def _log_odds(z: Logits) -> Float[Tensor, " n"]:
    """Return the log of the largest probability over all others together."""
    largest, place = z.max(1, keepdim=True)
    return largest[:, 0] - z.scatter(1, place, -torch.inf).logsumexp(1)
