"""CIFAR-10 and CIFAR-100 through torchvision's loader, downloaded only if missing.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images". The archive's MD5, which torchvision
verifies, is shown when it is fetched. Mean and standard deviation are those of the mixup family's repositories, over
all pixels of the training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from robust_eval.data._fetched import Fetched, Origin
from robust_eval.registry import register

__all__ = ["Cifar10", "Cifar100"]


@dataclass(frozen=True, kw_only=True)
class _Cifar(Fetched):
    crop = 4
    flip = True

    def _origin(self, loader: Any, split: str) -> Origin:
        return Origin(loader.url, loader.tgz_md5)

    def _content(self, loaded: Any) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(loaded.data).permute(0, 3, 1, 2).contiguous()
        return images, torch.tensor(loaded.targets)


@register("data", "cifar10")
@dataclass(frozen=True, kw_only=True)
class Cifar10(_Cifar):
    """Ten classes, 50,000 training and 10,000 test images, 32 x 32 pixels in colour."""

    called: ClassVar[str] = "cifar10"
    loader: ClassVar[str] = "CIFAR10"
    mean = (125.3 / 255, 123.0 / 255, 113.9 / 255)
    std = (63.0 / 255, 62.1 / 255, 66.7 / 255)


@register("data", "cifar100")
@dataclass(frozen=True, kw_only=True)
class Cifar100(_Cifar):
    """A hundred classes, 50,000 training and 10,000 test images, 32 x 32 pixels in colour."""

    called: ClassVar[str] = "cifar100"
    loader: ClassVar[str] = "CIFAR100"
    mean = (129.3 / 255, 124.1 / 255, 112.4 / 255)
    std = (68.2 / 255, 65.4 / 255, 70.4 / 255)
