"""Measure how large the activations of each channel are, stage by stage.

DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017,
https://arxiv.org/abs/1708.04552, figure 4, and Faramarzi et al., "PatchUp", AAAI 2022,
https://arxiv.org/abs/2006.07794: for channel c of a stage's output h on N images,

    a_c = 1 / (N H W) Σ_n Σ_ij |h_n,c,i,j|

drawn from the largest channel to the smallest. The stages are those of the network (``stages``), all but its head; both
papers show a Wide ResNet's stem and its three groups on test images.

Deviation: PatchUp's script sums signed values of the first image of each batch and divides by all images, which is
neither of the formulas. Numbers of networks with other normalisations, or of a stage that ends before a ReLU, are not
to be compared.

The summary is the mean over the channels of each stage. Its interval is about the images: 1.96 standard errors of the
mean over images.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robust_eval.analyses._looked_at import in_parts, normal_interval, reason, stages_of
from robust_eval.classifier import Classifier
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Batch, Plot
from robust_eval.registry import register
from robust_eval.rng import Rng

__all__ = ["ActivationMagnitude"]


@register("analysis", "activation_magnitude")
@dataclass(frozen=True, kw_only=True)
class ActivationMagnitude(Analysis):
    """Mean absolute activation of each channel of each stage, over images and positions."""

    needs_stages: ClassVar[bool] = True
    plot: ClassVar[Plot | None] = Plot(
        "Mean |activation| of each channel, from the largest to the smallest",
        x="rank",
        y="magnitude",
        split="stage",
    )

    def look(
        self, model: Classifier, images: Batch, *, other: Batch | None, training: Batch | None, rng: Rng
    ) -> pd.DataFrame:
        """Return one row for each channel: stage, channel, rank (1 is the largest), magnitude.

        ``standard_error`` is that of the stage's mean over so many ``images``, NaN for one. Raises ``DataError`` for a
        network without ``stages``.
        """
        stages = stages_of("activation_magnitude", model.network)
        stages.popitem()  # the head gives logits
        total: dict[str, Tensor] = {}
        per_image: dict[str, list[Tensor]] = defaultdict(list)
        with model.frozen(), torch.no_grad():
            for h in in_parts(images.x, model.batch_size):
                for name, stage in stages.items():
                    h = stage(h)
                    channels = h.detach().abs().flatten(2) if h.ndim > 2 else h.detach().abs()[..., None]
                    magnitude = channels.mean(2, dtype=torch.float64)
                    total[name] = total.get(name, 0) + magnitude.sum(0)
                    per_image[name].append(magnitude.mean(1))
        n = len(images.x)
        return pd.concat(
            [_table(name, total[name] / n, torch.cat(per_image[name])) for name in stages], ignore_index=True
        )

    def summary(self, table: pd.DataFrame) -> tuple[Measurement, ...]:
        """Return the mean magnitude of each stage."""
        numbers = []
        for stage, rows in table.groupby("stage", sort=False):
            value, first = float(rows["magnitude"].mean()), rows.iloc[0]
            interval = normal_interval(value, float(first["standard_error"]))
            numbers.append(
                Measurement(f"activation_magnitude_{stage}", value, *interval, int(first["images"]))
            )
        return tuple(numbers)

    def misfit(self, network: nn.Module) -> str | None:
        """Return that a network has no stages; ``None`` for one that has."""
        return reason(lambda: stages_of("activation_magnitude", network))


def _table(stage: str, magnitude: Tensor, per_image: Tensor) -> pd.DataFrame:
    order = magnitude.argsort(descending=True, stable=True).cpu().numpy()
    n = len(per_image)
    error = float(per_image.std()) / math.sqrt(n) if n > 1 else math.nan
    return pd.DataFrame(
        {
            "stage": stage,
            "channel": order,
            "rank": np.arange(1, len(order) + 1),
            "magnitude": magnitude.cpu().numpy()[order],
            "standard_error": error,
            "images": n,
        }
    )
