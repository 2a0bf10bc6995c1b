"""CIFAR-10 and CIFAR-100 through torchvision's loader, downloaded only if missing.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images". The archive's MD5, which torchvision
verifies, is shown when it is fetched.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from robust_eval.data._examples import Examples
from robust_eval.data._source import Source, cache_folder
from robust_eval.errors import DataError
from robust_eval.registry import register

__all__ = ["Cifar10", "Cifar100"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Cifar(Source):
    crop: ClassVar[int] = 4
    flip: ClassVar[bool] = True
    loader: ClassVar[str]

    root: Path | None = None
    """Folder of the unpacked archive's parent; ``None`` is the cache folder."""

    @property
    def name(self) -> str:
        """The set's name."""
        return self.loader.lower()

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` of the 10,000 test images."""
        return self._examples(train=False).first(n)

    def train(self) -> Examples:
        """Return the 50,000 training images."""
        return self._examples(train=True)

    def _examples(self, *, train: bool) -> Examples:
        from torchvision import datasets

        loader: Any = getattr(datasets, self.loader)
        root = self.root or cache_folder()
        try:
            try:
                split = loader(root, train=train, download=False)
            except RuntimeError:  # torchvision's word for a missing or damaged archive
                log.warning("fetching %s from %s to %s (MD5 %s)", self.name, loader.url, root, loader.tgz_md5)
                split = loader(root, train=train, download=True)
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"data {self.name}: could not be fetched from {loader.url} ({reason}); "
                f"unpack the archive into {root}, or set ROBUST_EVAL_DATA to the folder that holds it"
            ) from None
        images = torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous()
        return Examples(images, torch.tensor(split.targets), len(split.classes), self.name)


@register("data", "cifar10")
@dataclass(frozen=True, kw_only=True)
class Cifar10(_Cifar):
    """Ten classes, 50,000 training and 10,000 test images, 32 x 32 pixels in colour."""

    loader: ClassVar[str] = "CIFAR10"


@register("data", "cifar100")
@dataclass(frozen=True, kw_only=True)
class Cifar100(_Cifar):
    """A hundred classes, 50,000 training and 10,000 test images, 32 x 32 pixels in colour."""

    loader: ClassVar[str] = "CIFAR100"
