"""What users hand to a method in Python: taken where it is harmless, else refused in one line that says what to write.

Images, labels and streams are looked at by type and shape alone, which costs no wait for a GPU; their values are looked
at once for each call of a method.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from robust_eval.errors import DataError
from robust_eval.rng import Rng

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    ImagesLike = Tensor | NDArray[Any]
    LabelsLike = Tensor | NDArray[Any] | Sequence[int]
    RngLike = Rng | int
else:  # what they are not is told in words of ours, not of whoever checks types at run time
    ImagesLike = LabelsLike = RngLike = Any

__all__ = [
    "ImagesLike",
    "LabelsLike",
    "RngLike",
    "as_batch",
    "as_images",
    "as_labels",
    "as_rng",
    "expect_classes",
    "expect_pixels",
    "needs_rng",
]

P = ParamSpec("P")
T = TypeVar("T")
CHANNELS = (1, 3, 4)
"""Of the images that libraries of pictures hand over as [h,w,c]."""
SMALLEST = 5
"""Pixels of a side below which a last dimension of 3 may as well be a width."""


def needs_rng(call: Callable[P, T]) -> Callable[P, T]:
    """Have a method say what its missing ``rng`` looks like; the argument has no default."""

    @wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        if "rng" not in kwargs:
            raise TypeError(
                f"{type(args[0]).__name__}: expected rng=Rng(0), or another seed, by its name, got none; the same seed "
                "gives the same images"
            )
        return call(*args, **kwargs)

    return called


def as_rng(rng: RngLike) -> Rng:
    """Return a stream, the one of this seed where a whole number is given; raises ``ConfigError`` for anything else."""
    return rng if isinstance(rng, Rng) else Rng(rng)


def as_images(x: ImagesLike) -> Tensor:
    """Return a tensor [n,c,h,w] of floats: the same one, or a copy of an array.

    Raises ``DataError`` for anything else.
    """
    if isinstance(x, np.ndarray) and x.dtype.kind in "fiub":
        wide = x.dtype.itemsize > 8  # torch has no such floats
        x = torch.from_numpy(np.array(x, dtype=np.float64 if wide else x.dtype.newbyteorder("=")))
    if not isinstance(x, Tensor):
        fix = "; torch.stack(x) makes a batch of a list of images" if isinstance(x, list | tuple) else ""
        what = f"array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise DataError(f"images: expected a tensor or a numpy array [n,c,h,w], got {what}{fix}")
    if not x.is_floating_point():
        got = str(x.dtype).removeprefix("torch.")
        fix = {"bool": "x.float()", "uint8": "x / 255"}.get(got, "x / 255 for bytes")
        raise DataError(f"images: expected floats in [0, 1], got {got}; give {fix}")
    if x.ndim != 4:
        fix = "; a single image is x[None], images without channels are x[:, None]" if x.ndim == 3 else ""
        raise DataError(f"images: expected a batch [n,c,h,w], got {_shape(x)}{fix}")
    return x


def as_batch(x: ImagesLike) -> Tensor:
    """Return images as :func:`as_images` does, without a graph; those whose channels come last are refused."""
    images = as_images(x).detach()
    _, c, h, w = images.shape
    if w in CHANNELS and c not in CHANNELS and min(c, h) >= SMALLEST:
        raise DataError(
            f"images: expected [n,c,h,w], got {_shape(images)}, whose channels seem to come last; give "
            + ("x.permute(0, 3, 1, 2)" if isinstance(x, Tensor) else "x.transpose(0, 3, 1, 2)")
        )
    return images


def as_labels(y: LabelsLike, x: Tensor) -> Tensor:
    """Return the labels [n] of images as 64-bit integers on their device; raises ``DataError`` for anything else."""
    labels = y if isinstance(y, Tensor) else _labels_of(y)
    n = len(x)
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise DataError(f"labels: expected whole numbers [n], got {_shape(labels)}; give y[:, 0]")
    if labels.ndim == 2 and len(labels) == n and bool(((labels != 0).sum(1) != 1).any()):
        raise DataError(
            f"labels: expected one class for each image, got {_shape(labels)} with several or none on (multi-label); "
            "measure one label i at a time: a model that returns its output alone, lambda x: net(x)[:, i], and y[:, i]"
        )
    if labels.ndim == 2 and len(labels) == n:
        raise DataError(
            f"labels: expected whole numbers [n], got {_shape(labels)}, as one-hot labels are; give y.argmax(1)"
        )
    if labels.ndim != 1:
        raise DataError(f"labels: expected whole numbers [n], one for each image, got {_shape(labels)}")
    whole = not (labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex())
    if not whole and len(labels):  # an empty list is of floats
        got = str(labels.dtype).removeprefix("torch.")
        fix = "y.long()" if isinstance(y, Tensor) else "np.asarray(y, dtype=int)"
        raise DataError(f"labels: expected whole numbers, got {got}; give {fix} if these are classes")
    if len(labels) != n:
        raise DataError(f"labels: expected one for each of {n} images, got {len(labels)}")
    return labels.to(device=x.device, dtype=torch.int64)


def expect_pixels(what: str, x: Tensor) -> None:
    """Raise ``DataError`` for pixels outside [0, 1] or not finite."""
    low, high = torch.stack(x.aminmax()).tolist()  # one wait for a GPU, not two
    if low >= 0 and 2 < high <= 255:
        raise DataError(
            f"{what}: expected pixels in [0, 1], got values from {low:.4g} to {high:.4g}; give x / 255"
        )
    if not (low >= 0 and high <= 1):  # NaN fails both comparisons
        raise DataError(
            f"{what}: expected pixels in [0, 1], got values from {low:.4g} to {high:.4g}; "
            "give the images before normalisation (mean and std belong to the model)"
        )


def expect_classes(y: Tensor, classes: int, fewest: int) -> None:
    """Raise ``DataError`` for labels that are none of a model's classes, and for a model of too few."""
    if classes < fewest:
        fix = "; of one logit z make two by torch.cat([-z, z], 1)" if classes == 1 else ""
        raise DataError(f"model: expected logits of {fewest} classes or more, got {classes}{fix}")
    low, high = torch.stack(y.aminmax()).tolist()  # one wait for a GPU, not two
    if low < 0 or high >= classes:
        raise DataError(
            f"labels: expected 0..{classes - 1}, the classes of the model, got {low if low < 0 else high}"
        )


def _labels_of(y: Any) -> Tensor:
    try:
        found = np.asarray(y)
    except (ValueError, TypeError):  # lists of several lengths, tensors of a GPU
        found = np.asarray(None)
    if found.dtype.kind not in "iufb":
        raise DataError(
            f"labels: expected a tensor, an array or a list of whole numbers, got {type(y).__name__}"
        )
    return torch.from_numpy(np.array(found, dtype=np.int64 if found.dtype.kind in "iu" else found.dtype))


def _shape(x: Tensor) -> str:
    return f"[{','.join(map(str, x.shape))}]"
