"""Sets that torchvision reads and knows an address and checksums of: fetched when named and missing, never else."""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from robust_eval.data._examples import Examples
from robust_eval.data._source import Source, cache_folder
from robust_eval.errors import DataError

__all__ = ["Fetched", "Origin"]

log = logging.getLogger(__name__)


class Origin(NamedTuple):
    """Where a set is fetched from."""

    url: str
    md5: str


@dataclass(frozen=True, kw_only=True)
class Fetched(Source):
    """A set behind one of torchvision's loaders, which verify the checksums of what they fetch."""

    called: ClassVar[str]
    loader: ClassVar[str]
    """torchvision's class."""

    root: Path | None = None
    """Folder in which the set's own folder or files lie; ``None`` is the cache folder."""

    @property
    def name(self) -> str:
        """The set's name."""
        return self.called

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` of the test images."""
        return self._examples("test").first(n)

    def train(self) -> Examples:
        """Return the training images."""
        return self._examples("train")

    def fetched_from(self) -> str | None:
        """Return the address of the first split that is not here, or is damaged."""
        from torchvision import datasets

        loader: Any = getattr(datasets, self.loader)
        for split in ("train", "test"):
            try:
                loader(self.root or cache_folder(), download=False, **self._options(split))
            except (OSError, RuntimeError, EOFError, ValueError, AssertionError):
                return self._origin(loader, split).url
        return None

    @abstractmethod
    def _origin(self, loader: Any, split: str) -> Origin:
        """Return where torchvision gets a split from."""

    @abstractmethod
    def _content(self, loaded: Any) -> tuple[Tensor, Tensor]:
        """Return images [n,c,h,w] as uint8 and labels of what torchvision loaded."""

    def _options(self, split: str) -> dict[str, Any]:
        """Return how torchvision's loader is told the split."""
        return {"train": split == "train"}

    def _examples(self, split: str) -> Examples:
        from torchvision import datasets

        loader: Any = getattr(datasets, self.loader)
        root = self.root or cache_folder()
        options, origin = self._options(split), self._origin(loader, split)
        try:
            try:
                loaded = loader(root, download=False, **options)
            except RuntimeError:  # torchvision's word for missing or damaged files
                log.warning("fetching %s from %s to %s (MD5 %s)", self.name, origin.url, root, origin.md5)
                loaded = loader(root, download=True, **options)
            images, labels = self._content(loaded)
        except (OSError, RuntimeError, EOFError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(
                f"data {self.name}: could not be fetched from {origin.url} ({reason}); "
                f"unpack the archive into {root}, or set ROBUST_EVAL_DATA to the folder that holds it"
            ) from None
        except (ValueError, AssertionError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(
                f"data {self.name}: the files in {root} are damaged ({reason}); "
                "delete them, and they are fetched again"
            ) from None
        return Examples(images, labels.to(torch.int64), self._classes(loaded), self.name)

    def _classes(self, loaded: Any) -> int:
        return len(loaded.classes)
