"""The handwritten digits that scikit-learn carries: 1,797 real images of 8 x 8 pixels, no download.

Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI repository. The first 1,297 images
are the train split and the last 500 the test split; they are ordered by writer, so most test writers are new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from robust_eval.data._examples import Examples
from robust_eval.data._source import Source
from robust_eval.registry import register

__all__ = ["Digits"]

TRAIN = 1297


@register("data", "digits")
@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """Ten classes, one channel, 8 x 8 pixels with 17 grey levels."""

    @property
    def name(self) -> str:
        """``digits``."""
        return "digits"

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` of the 500 test images."""
        return self._examples(slice(TRAIN, None)).first(n)

    def train(self) -> Examples:
        """Return the 1,297 training images."""
        return self._examples(slice(TRAIN))

    def _examples(self, part: slice) -> Examples:
        from sklearn.datasets import load_digits  # slow to import, and only these images need it

        digits = load_digits()
        images = torch.from_numpy((digits.images[part] / 16).astype(np.float32))[:, None]
        return Examples(images, torch.from_numpy(digits.target[part].astype(np.int64)), 10, "digits")
