"""Measure how large the weights are: ``‖w‖₂ = (Σ_i w_i²)^½`` over all parameters, and over those of each stage.

A large norm is what weight decay holds down (Krogh and Hertz 1991, "A Simple Weight Decay Can Improve Generalization").
All parameters count, those of normalisations and biases too, each once however often the network uses it; running
statistics do not. For a network without ``stages`` the parts are the first words of the parameters' names.

A limit: what a batch normalisation follows can be scaled freely without a change of the function, so the norms of two
networks are to be compared only where both were trained by one recipe.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from torch import nn

from robust_eval.analyses._looked_at import network_inside, stages_of
from robust_eval.classifier import Classifier
from robust_eval.errors import DataError
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Batch, Passes, Plot
from robust_eval.registry import register
from robust_eval.rng import Rng

__all__ = ["WeightNorm"]


@register("analysis", "weight_norm")
@dataclass(frozen=True, kw_only=True)
class WeightNorm(Analysis):
    """The l2 norm of the weights, in all and for each stage."""

    plot: ClassVar[Plot | None] = Plot("l2 norm of the weights of each stage", x="part", y="norm", mark="bar")

    def look(
        self, model: Classifier, images: Batch, *, other: Batch | None, training: Batch | None, rng: Rng
    ) -> pd.DataFrame:
        """Return one row for each part of the network: part, weights (how many), norm.

        Raises ``DataError`` for a network without parameters.
        """
        network = network_inside(model.network)
        part_of = _stage_of_each(network)
        squares: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        for name, weight in network.named_parameters():
            part = part_of.get(id(weight), "elsewhere") if part_of else name.split(".")[0]
            squares[part] += float(weight.detach().double().square().sum())
            counts[part] += weight.numel()
        if not counts:
            raise DataError(
                f"weight_norm: expected a network with parameters, got {type(network).__name__} without any; "
                "leave weight_norm out"
            )
        norms = [math.sqrt(squares[part]) for part in counts]
        return pd.DataFrame({"part": list(counts), "weights": list(counts.values()), "norm": norms})

    def summary(self, table: pd.DataFrame) -> tuple[Measurement, ...]:
        """Return the norm of all weights, then that of each part; ``n`` is the number of weights."""
        whole = Measurement(
            "weight_norm", math.hypot(*table["norm"]), None, None, int(table["weights"].sum())
        )
        parts = zip(table["part"], table["norm"], table["weights"], strict=True)
        return (whole, *(Measurement(f"weight_norm_{part}", norm, None, None, n) for part, norm, n in parts))

    def cost(self, images: int, classes: int) -> Passes:
        """Return nothing: no image is looked at."""
        return Passes(0, 0)


def _stage_of_each(network: nn.Module) -> dict[int, str]:
    """Return the stage of each parameter by its id; nothing for a network without stages."""
    try:
        stages = stages_of("weight_norm", network)
    except DataError:
        return {}
    return {id(weight): name for name, stage in reversed(stages.items()) for weight in stage.parameters()}
