"""Images that were handed over in Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from robust_eval.arguments import ImagesLike, LabelsLike, as_batch, as_labels
from robust_eval.data._examples import Examples
from robust_eval.data._source import Source
from robust_eval.errors import DataError

if TYPE_CHECKING:
    Loader = Iterable[Any]
else:  # what is none is told in words of ours, not of whoever checks types at run time
    Loader = Any

__all__ = ["GivenImages", "given_images"]


@dataclass(frozen=True)
class GivenImages(Source):
    """Test images, and training images for what needs them."""

    called: str
    examples: Examples = field(repr=False)
    pool: Examples | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.called

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` of the images that were given."""
        return self.examples.first(n)

    def train(self) -> Examples | None:
        """Return the training images, ``None`` where none were given."""
        return self.pool


def given_images(
    what: str, x: ImagesLike | Loader, y: LabelsLike | None, *, names: Iterable[str] | None = None
) -> Examples:
    """Return images [n,c,h,w] in [0, 1] (or bytes) with labels, or all batches of a loader of pairs, as examples.

    Raises ``DataError``, one line, for anything else.
    """
    if y is None:
        x, y = _collected(what, x)
    given = _bytes(x)
    images = as_batch(cast("ImagesLike", x)) if given is None else given
    labels = as_labels(y, images).cpu()
    titles = None if names is None else tuple(map(str, names))
    classes = int(labels.max()) + 1 if len(labels) else 1
    if titles is not None and len(titles) < classes:
        raise DataError(f"{what}: expected a name for each of {classes} classes, got {len(titles)}")
    # a user's own tensor may change later, and what was measured may not
    return Examples(images.cpu().clone(), labels, max(classes, len(titles or ())), what, class_names=titles)


def _bytes(x: object) -> Tensor | None:
    """Return images of bytes, which take a quarter of the memory, as they are; ``None`` for others."""
    if isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 4:
        x = torch.from_numpy(np.array(x))
    if not (isinstance(x, Tensor) and x.dtype == torch.uint8 and x.ndim == 4):
        return None
    as_batch(x[:1].float() / 255)  # refuses channels that come last
    return x


def _collected(what: str, batches: object) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a loader together."""
    if isinstance(batches, Tensor | np.ndarray) or not isinstance(batches, Iterable):
        got = (
            "images without"
            if isinstance(batches, Tensor | np.ndarray)
            else f"{type(batches).__name__} and no"
        )
        raise DataError(f"{what}: expected images and labels, or a loader of both, got {got} labels; give y")
    images, labels = [], []
    for batch in batches:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            got = f"{len(batch)} values" if isinstance(batch, list | tuple) else type(batch).__name__
            raise DataError(f"{what}: expected batches (images, labels) from the loader, got {got}")
        part = as_batch(batch[0]).cpu()
        images.append(part)
        labels.append(as_labels(batch[1], part))
    if not images:
        raise DataError(f"{what}: expected at least one batch from the loader, got none")
    return torch.cat(images), torch.cat(labels)
