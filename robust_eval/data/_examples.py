"""Images with labels, checked once at the door."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from robust_eval.errors import DataError
from robust_eval.types import Images, Mask

__all__ = ["Examples"]


@dataclass(frozen=True, eq=False)
class Examples:
    """A set of images [n,c,h,w], uint8 or float in [0, 1], with labels [n] in 0..classes-1.

    Raises ``DataError`` for an empty set, shapes that do not fit, pixels outside [0, 1] or not finite, and
    labels outside the classes.
    """

    images: Shaped[Tensor, "n c h w"]
    labels: Int[Tensor, " m"]
    """As many as there are images."""
    classes: int
    source: str = "the data"
    """Where the images come from, for messages and cards."""
    true_labels: Int[Tensor, " t"] | None = None
    """The labels before noise was put on them, ``None`` where none was: to tell errors on the two parts apart. Nothing
    is trained on them."""

    def __post_init__(self) -> None:
        images, labels, source = self.images, self.labels, self.source
        if not len(images):
            raise DataError(f"{source}: expected at least one image, got none")
        if len(images) != len(labels):
            raise DataError(
                f"{source}: expected one label per image, got {len(images)} images and {len(labels)} labels"
            )
        if self.true_labels is not None and len(self.true_labels) != len(labels):
            raise DataError(
                f"{source}: expected one true label per image, got {len(images)} images and "
                f"{len(self.true_labels)} true labels"
            )
        if not images[0].numel():
            raise DataError(
                f"{source}: expected images of at least one pixel, got shape {list(images.shape)}"
            )
        if images.dtype.is_floating_point:
            low, high = images.min().item(), images.max().item()
            if not (low >= 0 and high <= 1):  # NaN fails both comparisons
                hint = (
                    "remove the NaN pixels"
                    if low != low or high != high
                    else "give the images before normalisation, divided by 255 (mean and std belong to the model)"
                )
                raise DataError(
                    f"{source}: expected pixels in [0, 1], got values from {low:.4g} to {high:.4g}; {hint}"
                )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.classes:
            raise DataError(
                f"{source}: expected labels in 0..{self.classes - 1}, got {low}..{high}; "
                "number the classes from 0, or give a model with that many outputs"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def first(self, n: int | None) -> Examples:
        """Return the first ``n`` examples, all of them for ``None``; raises ``DataError`` if there are fewer."""
        if n is None or n == len(self):
            return self
        if n > len(self):
            raise DataError(f"{self.source}: expected at least {n} images, got {len(self)}; lower n")
        return self[slice(n)]

    def __getitem__(self, which: Tensor | slice) -> Examples:
        true = None if self.true_labels is None else self.true_labels[which]
        return Examples(self.images[which], self.labels[which], self.classes, self.source, true)

    @property
    def corrupted(self) -> Mask | None:
        """Which labels are not the true ones, ``None`` where no noise was put on them."""
        return None if self.true_labels is None else self.labels != self.true_labels

    def pixels(self, which: Tensor | slice = slice(None)) -> Images:
        """Return images as float32 in [0, 1]."""
        return as_pixels(self.images[which])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over shape, pixels and labels: the identity of the set in a record's key."""
        digest = hashlib.sha256(repr((str(self.images.dtype), tuple(self.images.shape))).encode())
        digest.update(self.images.contiguous().numpy().tobytes())
        digest.update(self.labels.contiguous().to(torch.int64).numpy().tobytes())
        return digest.hexdigest()

    def without(self, others: Examples) -> Examples | None:
        """Return the examples whose pixels equal none of ``others``, ``None`` if all do: a pool must not hold the
        image it defends.
        """
        seen = {image.tobytes() for image in others.pixels().numpy()}
        keep = torch.tensor([as_pixels(image).numpy().tobytes() not in seen for image in self.images])
        return self if keep.all() else self[keep] if keep.any() else None


def as_pixels(images: Tensor) -> Tensor:
    """Return uint8 images divided by 255, float images as float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
