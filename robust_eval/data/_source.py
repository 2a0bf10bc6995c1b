"""Where images come from: a named set, a file or a folder."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from robust_eval.data._examples import Examples

__all__ = ["Source", "cache_folder"]


class Source(ABC):
    """A data set with a test split, and usually a train split."""

    crop: ClassVar[int] = 0
    """Zero padding in pixels that training on this set usually crops from."""
    flip: ClassVar[bool] = False
    """Whether training on this set usually mirrors images."""

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


def cache_folder() -> Path:
    """Where downloaded sets are kept: ``$ROBUST_EVAL_DATA``, else ``~/.cache/robust-eval``."""
    given = os.environ.get("ROBUST_EVAL_DATA")
    return Path(given) if given else Path.home() / ".cache" / "robust-eval"
