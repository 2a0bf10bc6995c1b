"""Many copies of one network at once: trained on batches in every order, asked about images, and told apart by loss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from robust_eval.types import Images, Labels

__all__ = ["Answers", "Clusters", "Ordered", "Weights", "answers", "clustered", "every_order", "one_of"]

Weights = dict[str, Tensor]
"""Parameters by name; of several networks they are stacked along the first dimension."""
VALUES = 1 << 20
"""Values of images that pass through networks at a time, about: more is slower on a CPU, which convolves many networks'
features in groups."""
ON_GPU = 64
"""How much more a GPU takes."""


class Ordered(NamedTuple):
    """What every order of the batches makes of a network."""

    orders: list[tuple[int, ...]]
    """Positions of the batches, in lexicographic order."""
    weights: Weights
    """One network for each order."""


class Answers(NamedTuple):
    """How stacked networks answer images."""

    loss: Float[Tensor, "k n"]
    """Cross-entropy."""
    right: Bool[Tensor, "k n"]


class Clusters(NamedTuple):
    """Networks that are alike."""

    of: Int[np.ndarray, " k"]
    """The cluster of each network."""
    chosen: Int[np.ndarray, " c"]
    """Which network stands for each cluster."""


def every_order(
    network: nn.Module, weights: Weights, x: Float[Tensor, "b n *chw"], y: Int[Tensor, "b n"], *, lr: float
) -> Ordered:
    """Return the network after one step of SGD on each of the batches, for every order of them.

    Orders that begin alike share these first steps, so that a network for 6 batches costs 2.7 steps instead of 6.
    """

    def loss(weights: Weights, x: Images, y: Labels) -> Tensor:
        return F.cross_entropy(functional_call(network, weights, (x,)), y)

    orders: list[tuple[int, ...]] = [()]
    stacked = {name: weight.detach()[None] for name, weight in weights.items()}
    gradient = vmap(grad(loss), chunk_size=_at_once(x[0]))
    for _ in range(len(x)):
        grown = [(i, k) for i, order in enumerate(orders) for k in range(len(x)) if k not in order]
        orders = [(*orders[i], k) for i, k in grown]
        begun, batch = torch.tensor(grown, device=x.device).unbind(1)
        before = {name: weight[begun] for name, weight in stacked.items()}
        slope = gradient(before, x[batch], y[batch])
        stacked = {name: weight - lr * slope[name] for name, weight in before.items()}
    return Ordered(orders, stacked)


def answers(network: nn.Module, stacked: Weights, x: Images, y: Labels, *, batch_size: int) -> Answers:
    """Ask each of the stacked networks about all of the images, so many of them at a time."""

    def ask(weights: Weights, x: Images, y: Labels) -> tuple[Tensor, Tensor]:
        logits = functional_call(network, weights, (x,))
        return F.cross_entropy(logits, y, reduction="none"), logits.argmax(1) == y

    parts = []
    with torch.no_grad():
        for part, labels in zip(torch.split(x, batch_size), torch.split(y, batch_size), strict=True):
            asked = vmap(ask, in_dims=(0, None, None), chunk_size=_at_once(part))
            parts.append(asked(stacked, part, labels))
    loss, right = zip(*parts, strict=True)
    return Answers(torch.cat(loss, 1), torch.cat(right, 1))


def clustered(losses: Float[np.ndarray, " k"], clusters: int, *, seed: int) -> Clusters:
    """Group networks by their loss with k-means; the one nearest to the centre, the first of several, stands for each.

    There are no more clusters than different losses.
    """
    from sklearn.cluster import KMeans  # slow to import, and nobody else here needs it

    values = np.asarray(losses, dtype=np.float64)[:, None]
    found = KMeans(min(clusters, len(np.unique(values))), n_init=10, random_state=seed).fit(values)
    centres = found.cluster_centers_[:, 0]
    order = np.argsort(centres)
    of = np.argsort(order)[found.labels_]
    far = np.where(of[None] == np.arange(len(centres))[:, None], abs(values.T - centres[order, None]), np.inf)
    return Clusters(of, far.argmin(1))


def one_of(stacked: Weights, i: int) -> Weights:
    """Return one of the stacked networks, without the memory of the others."""
    return {name: weight[i].clone() for name, weight in stacked.items()}


def _at_once(x: Images) -> int:
    """Return how many networks are given these images at a time."""
    room = VALUES if x.device.type == "cpu" else VALUES * ON_GPU
    return max(1, room // x.numel())
