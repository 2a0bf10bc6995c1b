"""What a corruption must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from robust_eval.arguments import ImagesLike, RngLike, as_batch, as_rng, expect_pixels, needs_rng
from robust_eval.errors import DataError
from robust_eval.rng import Rng
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import Images

__all__ = ["Corruption"]


class Corruption(ABC):
    """A change of the image that nobody optimised: noise, blur, weather, compression."""

    group: ClassVar[str]
    """noise, blur, weather, digital or deformation; the last has no field ``severity``."""
    sweeps: ClassVar[tuple[str, ...]] = ("severity",)
    """Fields that may be lists in an experiment file, one cell for each value."""
    at_once: ClassVar[int] = 1 << 17
    """How many values it works on at a time on a CPU, about what its cache holds."""

    @abstractmethod
    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Corrupt a batch; the result may leave [0, 1] and is clipped by the caller."""

    @needs_rng
    def __call__(self, x: ImagesLike, *, rng: RngLike) -> Images:
        """Return the corrupted batch [n,c,h,w], clipped to [0, 1], on the device and in the dtype of ``x``.

        It is worked on in parts, so that what is needed beside it does not grow with it. A stream without rows draws
        for each image by its pixels. Raises ``DataError`` for pixels outside [0, 1]. An array and a seed do as well.
        """
        x = as_batch(x)
        out, rng = torch.empty_like(x), as_rng(rng).for_images(x)
        if not len(x):
            return out
        expect_pixels("corruption", x)
        # a GPU has to be kept busy
        at_once = self.at_once if x.device.type == "cpu" else 1 << 26
        size = max(1, at_once // x[0].numel())
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            with surroundings_kept():
                made = self.apply(x[part], rng=rng.select(part))
            if not isinstance(made, Tensor) or made.shape != out[part].shape:
                got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
                raise DataError(
                    f"{type(self).__qualname__}.apply: expected a tensor of {list(out[part].shape)}, got {got}"
                )
            out[part] = made.clamp(0, 1)
        return out
