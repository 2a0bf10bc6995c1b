"""A bare network where a classifier is expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from robust_eval.classifier.classifier import Classifier

if TYPE_CHECKING:
    ModelLike = Classifier | nn.Module
else:  # what is none is told in words of ours, not of whoever checks types at run time
    ModelLike = Any

__all__ = ["ModelLike", "as_classifier"]


def as_classifier(model: ModelLike) -> Classifier:
    """Return a classifier, the one that is given or one of a bare network for images in [0, 1]."""
    return model if isinstance(model, Classifier) else Classifier(model)
