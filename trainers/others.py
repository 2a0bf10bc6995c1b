"""Makes the network of a recipe once more, with weights that are in a file: what a teacher is."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from robust_eval.classifier.normalized import Normalized
from robust_eval.data import Examples
from robust_eval.models.checkpoint import load_into, read_state
from robust_eval.models.recipe import Recipe
from robust_eval.rng import rewound

__all__ = ["other_network"]


def other_network(recipe: Recipe, examples: Examples, weights: Path) -> nn.Module:
    """Return it where the examples are; raises ``CheckpointError``, one line, for weights that do not fit.

    Pixels are normalised as the recipe says. Nothing is drawn that the training would have drawn.
    """
    with rewound():
        network = recipe.architecture.build(channels=examples.shape[0], classes=examples.classes)
    load_into(network, read_state(weights), source=weights)
    if recipe.mean is not None and recipe.std is not None:
        network = Normalized(network, recipe.mean, recipe.std)
    return network.to(examples.labels.device).eval()
