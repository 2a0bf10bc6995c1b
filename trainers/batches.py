"""Says which images are held out and which come together in a batch, and gets batches ready."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import tee
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from robust_eval.data import Examples
from robust_eval.models.recipe import Recipe
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Weights
from trainers.augment import crop, flip, resized_crop
from trainers.standing import Tried

__all__ = ["Batch", "Split", "augmented", "batch_of", "loaded", "stratified_split"]


class Split(NamedTuple):
    """Positions of the examples that are trained on, and of those held out."""

    train: Int[Tensor, " n"]
    validation: Int[Tensor, " m"]


def stratified_split(labels: Labels, fraction: float, *, rng: Rng) -> Split:
    """Hold out ``fraction`` of the examples, of each class that same part to within one image."""
    shuffled = torch.randperm(len(labels), generator=rng.torch_generator())
    by_class = shuffled[labels.cpu()[shuffled].argsort(stable=True)]
    # walking through the classes, hold one out each time the running total passes another whole number
    total = (torch.arange(len(labels) + 1, dtype=torch.float64) * fraction + 0.5).floor()
    held_out = total.diff() > 0
    return Split(by_class[~held_out].sort().values, by_class[held_out].sort().values)


class Batch(NamedTuple):
    """Images in [0, 1] with their labels, where training runs."""

    rows: Int[Tensor, " n"]
    """Their positions in the training set."""
    x: Images
    y: Labels
    weights: Weights | None = None
    """How much each counts, with mean 1; ``None`` where all count alike."""
    tried: Tried | None = None
    """The step on it, if it was taken on trial."""


def batch_of(training: Examples, rows: Int[Tensor, " n"]) -> Batch:
    """Return the images at these positions."""
    return Batch(rows, training.pixels(rows), training.labels[rows])


def loaded(training: Examples, indices: Iterable[Int[Tensor, " n"]]) -> Iterator[Batch]:
    """Yield the images at each of these positions; those in files are decoded while earlier ones are trained on."""
    indices, ahead = tee(indices)
    for index, x in zip(indices, training.batches(ahead), strict=False):
        yield Batch(index, x, training.labels[index])


def augmented(recipe: Recipe, x: Images, *, rng: Rng) -> Images:
    """Return images cropped and mirrored as the recipe says, each by the draw of its row."""
    if recipe.crop == "resized":
        x = resized_crop(x, rng=rng.child("crop"))
    elif recipe.crop:
        x = crop(x, recipe.crop, rng=rng.child("crop"))
    if recipe.flip:
        x = flip(x, rng=rng.child("flip"))
    return x
