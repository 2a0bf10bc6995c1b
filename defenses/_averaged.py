"""What the defenses share: classify several versions of an image and average the probabilities."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from robust_eval.data import Examples
from robust_eval.errors import ConfigError, DataError
from robust_eval.rng import Rng
from robust_eval.types import Images, Logits, StochasticModule

__all__ = ["ANY", "Averaged", "Pool", "Pooled", "average", "log_probabilities"]


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
    """Base of the defended models: holds the network and the draws of the current batch.

    ``copies`` is how many images pass through the network for one image, by which batches are split. With
    ``draws=False`` the defense draws nothing, and the model is stochastic only if its network is.
    """

    def __init__(self, network: nn.Module, copies: int, *, draws: bool = True) -> None:
        super().__init__()
        self.network = network
        self.copies = copies * (network.copies if isinstance(network, StochasticModule) else 1)
        self.stochastic = draws or (isinstance(network, StochasticModule) and network.stochastic)
        self._rng: Rng | None = None

    def redraw(self, rng: Rng) -> None:
        """Fix the draws of the next forward passes; one row for each image."""
        self._rng = rng if self.stochastic else None

    @abstractmethod
    def average(self, x: Images, rng: Rng) -> Logits:
        """Return the log of the averaged probabilities for these draws."""

    def forward(self, x: Images) -> Logits:
        """Map images in [0, 1] to the log of the averaged probabilities: a softmax of it gives them back."""
        if self._rng is None and self.stochastic:
            raise ValueError("this network is stochastic: call redraw(rng) before the forward pass")
        return self.average(x, (self._rng or Rng(0)).for_batch(len(x)))


class Pooled(Averaged):
    """Base of the defended models that mix with training images.

    Raises ``ConfigError`` where there is no pool, and ``DataError`` at the first images of another shape.
    """

    def __init__(self, network: nn.Module, pool: Examples | None, copies: int) -> None:
        super().__init__(network, copies)
        if pool is None:
            raise ConfigError(
                "pool: expected training images to mix with, got none; give wrap(network, pool) some"
            )
        self.pool = Pool(pool)

    def forward(self, x: Images) -> Logits:
        """See :meth:`Averaged.forward`."""
        if x.shape[1:] != self.pool.images.shape[1:]:
            raise DataError(
                f"pool: expected images of shape {tuple(x.shape[1:])}, as those classified, "
                f"got {tuple(self.pool.images.shape[1:])}; give training images of the same data"
            )
        return super().forward(x)


def average(network: nn.Module, mixed: Float[Tensor, "n m c h w"], rng: Rng) -> Logits:
    """Return the log of the mean over ``m`` of the network's probabilities; ``rng`` is for a network that draws."""
    n, m = mixed.shape[:2]
    log_p = log_probabilities(network, mixed.flatten(0, 1), rng)
    return log_p.view(n, m, log_p.shape[1]).logsumexp(1) - math.log(m)


def log_probabilities(network: nn.Module, x: Images, rng: Rng) -> Logits:
    """Return the network's log-probabilities for images that are versions of the rows of ``rng``, as many of each.

    A network that draws by itself draws anew for each of them.
    """
    if isinstance(network, StochasticModule) and network.stochastic:
        assert rng.index is not None, "a stream has rows here"
        of_each = len(x) // max(1, len(rng.index))
        version = torch.arange(of_each, device=rng.index.device)
        network.redraw(rng.child("network").rows((rng.index[:, None] * of_each + version).flatten()))
    log_p: Logits = network(x).log_softmax(1)
    # a class that is ruled out in all versions would make the gradient of their mean NaN
    return log_p.clamp(min=torch.finfo(log_p.dtype).min / 4)
