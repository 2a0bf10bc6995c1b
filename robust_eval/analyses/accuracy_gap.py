"""Measure how much accuracy is lost on another test set of the same classes.

Recht, Roelofs, Schmidt and Shankar, "Do ImageNet Classifiers Generalize to ImageNet?", ICML 2019,
https://arxiv.org/abs/1902.10811: new test sets, made as the first ones were (CIFAR-10.1, ImageNet-v2), on which all
models are worse.

    gap = accuracy on the measured set - accuracy on the other

Its interval is made of Wilson's two (Newcombe 1998, method 10), the sets being of different images. The published gaps
are those of whole sets: as many images of the other are taken as are measured, or all there are.

A limit: that a label means the same in both sets cannot be seen. A stochastic model is asked once about each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from robust_eval.analyses._looked_at import compared
from robust_eval.classifier import Classifier, misclassified
from robust_eval.errors import DataError
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Batch, Plot
from robust_eval.metrics.accuracy import accuracy, accuracy_gap
from robust_eval.registry import register
from robust_eval.rng import Rng

__all__ = ["AccuracyGap"]

MEASURED, OTHER = "measured", "other"


@register("analysis", "accuracy_gap")
@dataclass(frozen=True, kw_only=True)
class AccuracyGap(Analysis):
    """Clean accuracy on the measured images and on others of the same classes."""

    compares: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    plot: ClassVar[Plot | None] = Plot(
        "Accuracy on each class, here and on the other set", x="label", y="score", mark="bar", split="set"
    )

    def look(
        self, model: Classifier, images: Batch, *, other: Batch | None, training: Batch | None, rng: Rng
    ) -> pd.DataFrame:
        """Return one row for each image: set (measured or other), index, label, prediction, score (1 if right).

        Raises ``DataError`` for a second set that is missing, of another shape, or of other classes.
        """
        second = compared("accuracy_gap", images, other)
        if second.classes == 1 < images.classes:
            raise DataError(
                f"accuracy_gap: expected another set of {images.classes} classes, got images without labels; "
                "name a test set of the same classes, or compare with these by detection"
            )
        return pd.concat(
            [_scored(model, batch, name, rng) for name, batch in ((MEASURED, images), (OTHER, second))],
            ignore_index=True,
        )

    def summary(self, table: pd.DataFrame) -> tuple[Measurement, ...]:
        """Return the accuracy on both sets, and the gap."""
        own, other = (table[table["set"] == name] for name in (MEASURED, OTHER))
        return (
            accuracy(own["score"]),
            accuracy(other["score"], metric="accuracy_other"),
            accuracy_gap(own, other),
        )


def _scored(model: Classifier, batch: Batch, name: str, rng: Rng) -> pd.DataFrame:
    logits = model.logits(batch.x, rng=rng.rows(torch.arange(len(batch.x))).child(name))
    if (highest := int(batch.y.max())) >= logits.shape[1]:
        raise DataError(
            f"accuracy_gap: expected labels in 0..{logits.shape[1] - 1}, the outputs of the model, got label "
            f"{highest} in the {name} set; name a test set of the same classes"
        )
    wrong = misclassified(logits, batch.y)
    return pd.DataFrame(
        {
            "set": name,
            "index": np.arange(len(batch.x)),
            "label": batch.y.cpu().numpy(),
            "prediction": torch.where(logits.amax(1).isfinite(), logits.argmax(1), -1).cpu().numpy(),
            "score": (~wrong).double().cpu().numpy(),
        }
    )
