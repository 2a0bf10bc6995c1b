"""The formats of files and folders, one a line: who recognises it, and what its images can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from robust_eval.data import (
    arrays,
    cifar_batches,
    folder,
    hugging_face,
    imagenet_v2,
    listed,
    npy,
    parquet,
    shards,
)
from robust_eval.data._asked import Asked
from robust_eval.data._source import Source

__all__ = ["FORMATS", "WANTED", "Format"]


class Format(NamedTuple):
    """A format, found by looking at what was asked for."""

    recognised: Callable[[Asked], Source | None]
    """Opens it; ``None`` for what is of another format. Raises ``DataError`` for what nearly is of this one."""
    sized: bool = True
    """Whether its images are files that are decoded, and may be brought to a size."""


FORMATS = (
    Format(arrays.recognised, sized=False),
    Format(npy.recognised, sized=False),
    Format(cifar_batches.recognised, sized=False),
    Format(hugging_face.recognised),
    Format(parquet.recognised),
    Format(shards.recognised),
    Format(listed.recognised),
    Format(imagenet_v2.recognised),
    Format(folder.recognised),
)
"""In this order: the first that recognises what lies there opens it."""
WANTED = (
    "a .npz file or a folder of images, or a file of another known kind (.npy pair, .csv, .parquet, .tar, CIFAR's "
    "batches; robust-eval guide evaluate)"
)
"""What a message says was expected."""
