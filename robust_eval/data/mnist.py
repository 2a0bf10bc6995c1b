"""MNIST and Fashion-MNIST through torchvision's loader, downloaded only if missing.

Sources: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition"; Xiao, Rasul
and Vollgraf 2017, https://arxiv.org/abs/1708.07747. Each set is four IDX files, whose MD5s torchvision verifies when it
fetches them. Mean and standard deviation are over all pixels of the training images. Digits are neither cropped nor
mirrored in training; clothes are both, as Zhong et al. 2017 (https://arxiv.org/abs/1708.04896) do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from robust_eval.data._fetched import Fetched, Origin
from robust_eval.registry import register

__all__ = ["FashionMnist", "Mnist"]


@dataclass(frozen=True, kw_only=True)
class _Mnist(Fetched):
    def _origin(self, loader: Any, split: str) -> Origin:
        # torchvision fetches both splits at once
        return Origin(loader.mirrors[0], ", ".join(f"{file} {md5}" for file, md5 in loader.resources))

    def _content(self, loaded: Any) -> tuple[Tensor, Tensor]:
        return loaded.data[:, None].contiguous(), loaded.targets


@register("data", "mnist")
@dataclass(frozen=True, kw_only=True)
class Mnist(_Mnist):
    """Handwritten digits: ten classes, 60,000 training and 10,000 test images, 28 x 28 pixels in grey."""

    called: ClassVar[str] = "mnist"
    loader: ClassVar[str] = "MNIST"
    mean = (0.1307,)
    std = (0.3081,)


@register("data", "fashion_mnist")
@dataclass(frozen=True, kw_only=True)
class FashionMnist(_Mnist):
    """Pieces of clothing: ten classes, 60,000 training and 10,000 test images, 28 x 28 pixels in grey."""

    called: ClassVar[str] = "fashion_mnist"
    loader: ClassVar[str] = "FashionMNIST"
    crop = 4
    flip = True
    mean = (0.2860,)
    std = (0.3530,)
