"""Whether the data's labels are the model's: those that count from 1 are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from robust_eval.data import Examples, Source
from robust_eval.errors import RobustEvalError
from robust_eval.models.source import ModelSource

__all__ = ["counted_alike", "counted_from_0"]

log = logging.getLogger(__name__)


def counted_from_0(
    examples: Examples, source: Source, models: Callable[[Examples], Sequence[ModelSource]]
) -> tuple[Examples, Sequence[ModelSource] | None]:
    """Return the images, with labels 1..n as 0..n-1 where every model has exactly n outputs, which is said; and the
    models, if they were loaded for that.
    """
    shifted = _from_0(examples, source)
    if shifted is None:
        return examples, None
    try:
        found = models(shifted)
    except RobustEvalError:  # whatever it is, it is told of the images as they are
        return examples, None
    n = shifted.classes
    if not found or any(model.classes != n for model in found):
        return examples, None
    log.warning(
        "%s: no label is 0, the largest is %d and the model has %d outputs: labels are taken to count from 1, so that "
        "label 1 is the first output",
        examples.source, n, n,
    )  # fmt: skip
    return shifted, found


def counted_alike(pool: Examples, found: Sequence[ModelSource] | None) -> Examples:
    """Return training images with labels from 0 as well, where those of the test images were taken to count from 1."""
    if found is None or int(pool.labels.min()) < 1:
        return pool
    return replace(pool, labels=pool.labels - 1, classes=pool.classes - 1)


def _from_0(examples: Examples, source: Source) -> Examples | None:
    """Return the images with labels 1..n as 0..n-1, ``None`` where a label is 0 or the classes have names.

    Of the first few images that are measured, the whole set is asked whether a label is 0.
    """
    if examples.class_names is not None or examples.classes < 2 or int(examples.labels.min()) < 1:
        return None
    if int(examples.labels.max()) < examples.classes - 1 or int(examples.labels.min()) > 1:
        everything = source.test(None)
        if int(everything.labels.min()) != 1 or int(everything.labels.max()) != examples.classes - 1:
            return None
    true = None if examples.true_labels is None else examples.true_labels - 1
    return replace(examples, labels=examples.labels - 1, classes=examples.classes - 1, true_labels=true)
