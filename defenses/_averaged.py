"""What both defenses share: classify several mixed copies of an image and average the probabilities."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from robust_eval.data import Examples
from robust_eval.errors import DataError
from robust_eval.rng import Rng
from robust_eval.types import Images, Logits, StochasticModule

__all__ = ["ANY", "Averaged", "Pool", "average"]


ANY = 1 << 62
"""Upper end of a draw that is then taken modulo a class size: the bias is below that size / 2^62."""


class Pool(nn.Module):
    """Training images to mix with, kept sorted by class as uint8 where they came so."""

    images: Tensor
    first: Tensor
    count: Tensor
    classes: Tensor

    def __init__(self, examples: Examples) -> None:
        super().__init__()
        order = examples.labels.argsort(stable=True)
        counts = examples.labels.bincount(minlength=examples.classes)
        self.register_buffer("images", examples.images[order], persistent=False)
        self.register_buffer("first", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("count", counts, persistent=False)
        self.register_buffer("classes", counts.nonzero()[:, 0], persistent=False)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Int[Tensor, "n m"]) -> Float[Tensor, "n m c h w"]:
        """Return the images at these places as float32 in [0, 1]."""
        images = self.images[index]
        return images.float() / 255 if images.dtype == torch.uint8 else images.float()

    def of_class(self, label: Int[Tensor, "n m"], draw: Int[Tensor, "n m"]) -> Float[Tensor, "n m c h w"]:
        """Return an image of each class, the place among its images given by ``draw`` modulo how many it has."""
        # whole numbers: a float32 below 1 times the count can round up to it, which is the next class
        return self.take(self.first[label] + draw % self.count[label])


class Averaged(StochasticModule):
    """Base of the defended models: holds the network, the pool and the draws of the current batch.

    ``copies`` is how many images pass through the network for one image, by which batches are split.
    """

    def __init__(self, network: nn.Module, pool: Examples, copies: int) -> None:
        super().__init__()
        self.network = network
        self.pool = Pool(pool)
        self.copies = copies
        self._rng: Rng | None = None

    def redraw(self, rng: Rng) -> None:
        """Fix the draws of the next forward passes; one row for each image."""
        self._rng = rng

    @abstractmethod
    def average(self, x: Images, rng: Rng) -> Logits:
        """Return the log of the averaged probabilities for these draws."""

    def forward(self, x: Images) -> Logits:
        """Map images in [0, 1] to the log of the averaged probabilities: a softmax of it gives them back."""
        if self._rng is None:
            raise ValueError("this network is stochastic: call redraw(rng) before the forward pass")
        if x.shape[1:] != self.pool.images.shape[1:]:
            raise DataError(
                f"pool: expected images of shape {tuple(x.shape[1:])}, as those classified, "
                f"got {tuple(self.pool.images.shape[1:])}; give training images of the same data"
            )
        return self.average(x, self._rng.for_batch(len(x)))


def average(network: nn.Module, mixed: Float[Tensor, "n m c h w"]) -> Logits:
    """Return the log of the mean over ``m`` of the network's probabilities."""
    n, m = mixed.shape[:2]
    log_p = network(mixed.flatten(0, 1)).log_softmax(1).unflatten(0, (n, m))
    result: Logits = log_p.logsumexp(1) - math.log(m)
    return result
