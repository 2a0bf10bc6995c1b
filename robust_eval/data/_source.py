"""Where images come from: a named set, a file or a folder."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from robust_eval.data._examples import Examples

__all__ = ["Choose", "Source", "cache_folder"]

Choose = Callable[[Tensor], Int[Tensor, " k"]]
"""Maps the labels of all training images to the positions of those wanted."""


class Source(ABC):
    """A data set with a test split, and usually a train split."""

    crop: int | Literal["resized"] = 0
    """Zero padding in pixels that training on this set usually crops from, or ``resized``: crops of random size."""
    flip: bool = False
    """Whether training on this set usually mirrors images."""
    shuffled: bool = False
    """Whether images come in a fixed shuffled order, which nobody can give one mask each for."""
    mean: tuple[float, ...] | None = None
    """What networks for this set usually subtract from the pixels, per channel; ``None`` where nothing is usual."""
    std: tuple[float, ...] | None = None
    """What they divide by afterwards."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a report calls it."""

    @abstractmethod
    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` test images, all for ``None``; raises ``DataError`` if there are fewer."""

    @abstractmethod
    def train(self) -> Examples | None:
        """Return the training images, ``None`` where the source has none."""

    def fetched_from(self) -> str | None:
        """Return the address that images would be fetched from first; ``None`` where they need not be."""
        return None

    def train_some(self, choose: Choose) -> Examples | None:
        """Return the training images that ``choose`` picks by their labels; sources of image files read no others."""
        found = self.train()
        return None if found is None else found[choose(found.labels)]


def cache_folder() -> Path:
    """Where downloaded sets are kept: ``$ROBUST_EVAL_DATA``, else ``~/.cache/robust-eval``."""
    given = os.environ.get("ROBUST_EVAL_DATA")
    return Path(given) if given else Path.home() / ".cache" / "robust-eval"
