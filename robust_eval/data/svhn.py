"""SVHN's cropped digits through torchvision's loader, downloaded only if missing.

Source: Netzer et al. 2011, "Reading Digits in Natural Images with Unsupervised Feature Learning". Each split is one
MATLAB file with an MD5 that torchvision verifies; the digit 0, called 10 in the files, is class 0. Without the 531,131
``extra`` images. Training crops from a padding of 2 pixels, does not mirror, and normalises by 127.5, as the
repositories of manifold mixup and PatchUp do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from robust_eval.data._fetched import Fetched, Origin
from robust_eval.registry import register

__all__ = ["Svhn"]


@register("data", "svhn")
@dataclass(frozen=True, kw_only=True)
class Svhn(Fetched):
    """House numbers: ten classes, 73,257 training and 26,032 test images, 32 x 32 pixels in colour."""

    called: ClassVar[str] = "svhn"
    loader: ClassVar[str] = "SVHN"
    crop = 2
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def _options(self, split: str) -> dict[str, Any]:
        return {"split": split}

    def _origin(self, loader: Any, split: str) -> Origin:
        url, _, md5 = loader.split_list[split]
        return Origin(url, md5)

    def _content(self, loaded: Any) -> tuple[Tensor, Tensor]:
        # torchvision gives a transposed view, and squeezes the labels of a single image to a scalar
        images = torch.from_numpy(np.ascontiguousarray(loaded.data))
        return images, torch.from_numpy(np.atleast_1d(loaded.labels))

    def _classes(self, loaded: Any) -> int:
        return 10
