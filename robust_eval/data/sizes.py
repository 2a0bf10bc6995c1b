"""How many images named sets have, so that what a run costs can be told before any of them is here."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SIZES", "Size"]


class Size(NamedTuple):
    """Numbers of images and of classes."""

    train: int
    test: int
    classes: int


SIZES = {
    "cifar10": Size(50_000, 10_000, 10),
    "cifar100": Size(50_000, 10_000, 100),
    "cifar10_1": Size(0, 2_000, 10),
    "cifar10_1_v4": Size(0, 2_021, 10),
    "digits": Size(1_297, 500, 10),
    "fashion_mnist": Size(60_000, 10_000, 10),
    "imagenet": Size(1_281_167, 50_000, 1_000),
    "imagenet_v2": Size(0, 10_000, 1_000),
    "imagenet_v2_threshold": Size(0, 10_000, 1_000),
    "imagenet_v2_top_images": Size(0, 10_000, 1_000),
    "mnist": Size(60_000, 10_000, 10),
    "mnist5k": Size(4_000, 1_000, 10),
    "svhn": Size(73_257, 26_032, 10),
    "tiny_imagenet": Size(100_000, 10_000, 200),
}
"""By the name of the set, as published."""
