"""Images with labels, checked once at the door."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from robust_eval.data._streamed import Streamed
from robust_eval.errors import DataError
from robust_eval.identity import BY_FILES
from robust_eval.types import Images, Mask

__all__ = ["Examples"]

log = logging.getLogger(__name__)

AT_ONCE = 512
"""Images hashed at a time: bounds memory."""
ROUNDING = 1e-5
"""How far outside [0, 1] a value may lie that sums and products in float32 have led there."""


@dataclass(frozen=True, eq=False)
class Examples:
    """A set of images [n,c,h,w], uint8 or float in [0, 1], with labels [n] in 0..classes-1.

    Images that do not fit into memory stay in their files: ``pixels`` decodes those it is asked for, and ``batches``
    the next ones meanwhile. Parts of the set are still in files. Pixels come out on the device of the labels.

    Raises ``DataError`` for an empty set, shapes that do not fit, pixels outside [0, 1] or not finite, and
    labels outside the classes.
    """

    images: Shaped[Tensor, "n c h w"] | Streamed
    labels: Int[Tensor, " m"]
    """As many as there are images."""
    classes: int
    source: str = "the data"
    """Where the images come from, for messages and cards."""
    true_labels: Int[Tensor, " t"] | None = None
    """The labels before noise was put on them, ``None`` where none was: to tell errors on the two parts apart. Nothing
    is trained on them."""
    files_sha256: str | None = None
    """Stands for the pixels in the fingerprint of a large set read from files; ``None`` where pixels are hashed."""
    class_names: tuple[str, ...] | None = None
    """Where images were sorted into folders, those of the classes by number."""

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
        if not math.prod(images.shape[1:]):
            raise DataError(
                f"{source}: expected images of at least one pixel, got shape {list(images.shape)}"
            )
        if isinstance(images, Tensor) and images.dtype.is_floating_point:
            images = self._clipped(images)
            low, high = images.min().item(), images.max().item()
            if not (low >= 0 and high <= 1):  # NaN fails both comparisons
                hint = "remove the NaN pixels" if low != low or high != high else _conversion(low, high)
                raise DataError(
                    f"{source}: expected pixels in [0, 1], got values from {low:.4g} to {high:.4g}; {hint}"
                )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.classes:
            raise DataError(
                f"{source}: expected labels in 0..{self.classes - 1}, got {low}..{high}; "
                "number the classes from 0, or give a model with that many outputs"
            )

    def _clipped(self, images: Tensor) -> Tensor:
        """Put pixels a rounding outside [0, 1] onto its ends, and say how many; others are left to be refused."""
        low, high = images.min().item(), images.max().item()
        if (low >= 0 and high <= 1) or not (low >= -ROUNDING and high <= 1 + ROUNDING):
            return images
        n = int(((images < 0) | (images > 1)).sum())
        log.warning(
            "%s: %s of %s values lie a rounding outside [0, 1] (from %.9g to %.9g) and are clipped",
            self.source, f"{n:,}", f"{images.numel():,}", low, high,
        )  # fmt: skip
        object.__setattr__(self, "images", images.clamp(0, 1))
        return images.clamp(0, 1)

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
        images = self.images.select(which) if isinstance(self.images, Streamed) else self.images[which]
        true = None if self.true_labels is None else self.true_labels[which]
        files = None if self.files_sha256 is None else _part_of(self.files_sha256, which, len(self))
        labels = self.labels[which]
        return Examples(images, labels, self.classes, self.source, true, files, self.class_names)

    @property
    def corrupted(self) -> Mask | None:
        """Which labels are not the true ones, ``None`` where no noise was put on them."""
        return None if self.true_labels is None else self.labels != self.true_labels

    def pixels(self, which: Tensor | slice = slice(None)) -> Images:
        """Return images as float32 in [0, 1]."""
        return as_pixels(self.images[which].to(self.labels.device))

    def batches(self, parts: Iterable[Tensor | slice]) -> Iterator[Images]:
        """Yield the images at each of these positions as float32 in [0, 1].

        What is in files is decoded ahead, so positions are asked for before their turn. Raises ``DataError`` naming the
        file for one that cannot be read.
        """
        for images in self._read(parts):
            yield as_pixels(images.to(self.labels.device))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over shape, pixels and labels: the identity of the set in a record's key.

        Of images from files that take more than 4 GB, the pixels are not hashed but, in order, the files' paths below
        the set's folder, their sizes in bytes, and how they are resized and cropped: a file changed to another of its
        size goes unnoticed. Of test images the pixels of 256 are hashed as well, and the fingerprint ends in
        ``-files``. Which of the two is hashed does not depend on the memory there is.
        """
        digest = hashlib.sha256(repr((str(self.images.dtype), tuple(self.images.shape))).encode())
        if self.files_sha256 is not None:
            digest.update(self.files_sha256.encode())
        else:
            parts = [slice(start, start + AT_ONCE) for start in range(0, len(self), AT_ONCE)]
            for images in self._read(parts):
                digest.update(images.contiguous().numpy().tobytes())
        digest.update(self.labels.contiguous().to(torch.int64).numpy().tobytes())
        by_files = (self.files_sha256 or "").endswith(BY_FILES)
        return digest.hexdigest() + (BY_FILES if by_files else "")

    def _read(self, parts: Iterable[Tensor | slice]) -> Iterator[Tensor]:
        if isinstance(self.images, Streamed):
            return self.images.batches(parts)
        return map(self.images.__getitem__, parts)

    def without(self, others: Examples) -> Examples | None:
        """Return the examples whose pixels equal none of ``others``, ``None`` if all do: a pool must not hold the
        image it defends.

        Raises ``DataError`` for images that do not fit into memory: a pool is mixed with as a whole.
        """
        if isinstance(self.images, Streamed):
            raise DataError(
                f"pool {self.source}: expected images that fit into memory, got {len(self)} of "
                f"{'x'.join(map(str, self.shape))}, {math.prod(self.images.shape) / 1e9:.1f} GB; "
                "take fewer of each class (per_class) or a smaller size, or name a smaller pool (pool = in [data])"
            )
        # hashes, as the others may be many more than fit into memory
        parts = [slice(start, start + AT_ONCE) for start in range(0, len(others), AT_ONCE)]
        seen = {_hash_of(image) for images in others.batches(parts) for image in images}
        keep = torch.tensor([_hash_of(as_pixels(image)) not in seen for image in self.images])
        return self if keep.all() else self[keep] if keep.any() else None


def _hash_of(image: Tensor) -> bytes:
    return hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).digest()


def as_pixels(images: Tensor) -> Tensor:
    """Return uint8 images divided by 255, float images as float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _conversion(low: float, high: float) -> str:
    """Return what brings images of another box to [0, 1]."""
    if low >= 0 and 1 < high <= 255:
        return "give the images before normalisation, divided by 255 (x / 255), or as bytes"
    if -1 <= low < 0 and high <= 1:
        return (
            "give the images before normalisation: (x + 1) / 2 brings [-1, 1] to [0, 1], and mean 0.5 and std 0.5 "
            "inside the model bring it back (--mean, --std); a radius is halved with it"
        )
    return "give the images before normalisation, divided by 255 (mean and std belong to the model)"


def _part_of(files_sha256: str, which: Tensor | slice, n: int) -> str:
    """Return what stands for the pixels of a part: a hash of the whole and of the positions."""
    positions = torch.arange(n)[which.cpu() if isinstance(which, Tensor) else which]
    part = hashlib.sha256(files_sha256.encode() + positions.numpy().tobytes()).hexdigest()
    return part + (BY_FILES if files_sha256.endswith(BY_FILES) else "")
