"""A model under examination, with a few images to try it on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from robust_eval.classifier import Classifier
from robust_eval.rng import Rng
from robust_eval.threat import Threat
from robust_eval.types import Images, Labels

__all__ = ["Subject", "classes_of"]


class Subject(NamedTuple):
    """What a check experiments on. All images are classified correctly, by the majority of draws if it has any."""

    model: Classifier
    """As it is scored."""
    seen: Classifier
    """As attacks see it: averaged over draws, its gradients mended where that was needed."""
    x: Images
    y: Labels
    threat: Threat
    """A fixed radius that the model is attacked at."""
    rng: Rng
    """One row for each image."""
    free: Bool[Tensor, "n c h w"] | None = None
    """The pixels that attacks may change, some of each image; all for ``None``."""

    def held(self, points: Images, rows: Tensor | slice = slice(None)) -> Images:
        """Return points for the images of these rows with the pixels that may not change as they are."""
        return points if self.free is None else torch.where(self.free[rows], points, self.x[rows])


def classes_of(model: Classifier, x: Images, rng: Rng) -> int:
    """Return how many classes a model has, by its answer to the first image of ``x`` [n,c,h,w]."""
    return model.logits(x[:1], rng=rng.select(slice(1)).child("classes")).shape[1]
