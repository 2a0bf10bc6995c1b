"""Train a network on a few batches in every order, epoch after epoch: how much does the order alone decide?

Exhaustive Perfect Ordering, algorithm 1 of the thesis whose chapter 2 approximates such orders. From one network, b
batches are learnt in all b! orders, one step of SGD each. Every later epoch splits the same images anew, groups the
networks of the epoch before by their loss (k-means), and trains one of each group in all orders again:

    networks trained = b! + clusters * b! * (epochs - 1),   720 + 12 * 720 * 12 = 104,400 by default

The defaults are the thesis': 24 images each of the digits 0 and 1, batches of 8, 13 epochs, 12 clusters. Its network,
optimiser, rate and loss are not stated. Ours: SGD without momentum at 0.1, where losses fall about as far as there, the
mean cross-entropy over all outputs of the network, and of each cluster the network nearest to its centre.

Deviation: the thesis groups by test loss, which lets the images that it reports on decide what is trained on. Here it
is the loss on training images that are in no batch; ``reference = "test"`` does as the thesis, and every report says
so. It tests on 2,048 images, which need not exist (MNIST has 980 zeros to test on): all of the measured images of these
classes are taken.

A network that batch normalisation or dropout makes another one in training cannot be looked at: a batch of 8 says
little of a mean, and copies that are trained at once would have to share it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor, nn

from robust_eval.analyses._looked_at import network_inside
from robust_eval.analyses._orders import Weights, answers, clustered, every_order, one_of
from robust_eval.classifier import Classifier
from robust_eval.errors import DataError
from robust_eval.fields import Real, Whole
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Batch, Passes
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Labels, StochasticModule

__all__ = ["PerfectOrder"]

BATCHES = 7
"""More have too many orders: 8! are 40,320."""
MEMORY = 4 << 30
"""Bytes that the weights of an epoch may have."""
Count = Annotated[Whole, Field(ge=1)]


@register("analysis", "perfect_order")
@dataclass(frozen=True, kw_only=True)
class PerfectOrder(Analysis):
    """Loss and accuracy of copies of the network, trained on a few batches in every order."""

    needs_training: ClassVar[bool] = True
    by_name: ClassVar[bool] = True

    classes: tuple[Annotated[Whole, Field(ge=0)], ...] = (0, 1)
    """Whose images are trained on, selected by and tested on."""
    per_class: Count = 24
    """Training images of each class in the batches."""
    batch_size: Count = 8
    """Divides the number of training images; their quotient is the number of batches, from 2 to 7."""
    epochs: Count = 13
    clusters: Count = 12
    """Networks that an epoch starts from, after the first."""
    lr: Annotated[Real, Field(ge=0)] = 0.1
    reference: Literal["validation", "test"] = "validation"
    """Whose loss groups the networks: training images that are in no batch, or the test images (a leak)."""
    held_out: Count = 256
    """Training images of each class, at most, that are kept for ``validation``."""

    def __post_init__(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"expected two different classes or more, got {list(self.classes)}")
        images = self.per_class * len(self.classes)
        if images % self.batch_size:
            raise ValueError(
                f"expected a batch_size that divides the {images} training images ({self.per_class} of each of "
                f"{len(self.classes)} classes), got {self.batch_size}"
            )
        if not 2 <= self._batches <= BATCHES:
            raise ValueError(
                f"expected 2 to {BATCHES} batches, got {self._batches}"
                + (
                    f", which have {self._told}; take a larger batch_size"
                    if self._batches > 1
                    else "; take a smaller batch_size"
                )
            )
        if self.clusters > (orders := math.factorial(self._batches)):
            raise ValueError(
                f"expected at most {orders} clusters, the orders of {self._batches} batches, got {self.clusters}"
            )

    def look(
        self, model: Classifier, images: Batch, *, other: Batch | None, training: Batch | None, rng: Rng
    ) -> pd.DataFrame:
        """Return one row for each network trained: what it was trained on, and how it answers.

        ``epoch``, ``start`` (which of the networks that the epoch starts from), ``order`` (its batches, by number);
        ``selection_loss`` and ``selection_accuracy`` on the reference, ``loss`` and ``accuracy`` on the measured images
        of these classes; ``cluster`` (from the lowest loss to the highest, -1 after the last epoch) and ``chosen`` (1
        where the next epoch starts from it); ``n_selection`` and ``n``, of how many images these are means.
        Raises ``DataError`` for a network or images that this cannot be done with.
        """
        if why := self.misfit(model.network) or self.lacks(
            images.y, None if training is None else training.y
        ):
            raise DataError(why)
        assert training is not None
        measured = _of(images.y, self.classes)
        test = Batch(images.x[measured], images.y[measured], images.classes)
        outputs = model.logits(test.x[:1], rng=rng.rows(torch.arange(1))).shape[1]
        if max(self.classes) >= outputs:
            raise DataError(
                f"perfect_order: classes: expected classes in 0..{outputs - 1}, the outputs of the model, got "
                f"{max(self.classes)}"
            )
        inside, kept = self._drawn(training.y, rng)
        learnt = Batch(training.x[inside], training.y[inside], training.classes)
        held = Batch(training.x[kept], training.y[kept], training.classes)
        with model.frozen():
            tables = list(self._epochs(model, learnt, test if self.reference == "test" else held, test, rng))
        return pd.concat(tables, ignore_index=True)

    def _epochs(
        self, model: Classifier, learnt: Batch, held: Batch, test: Batch, rng: Rng
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of each epoch."""
        network, same = model.network, held is test
        x = test.x if same else torch.cat([test.x, held.x])
        y = test.y if same else torch.cat([test.y, held.y])
        on_test, on_held = slice(len(test.x)), slice(None) if same else slice(len(test.x), None)
        starts: list[Weights] = [dict(network.named_parameters())]
        for epoch in range(1, self.epochs + 1):
            shuffled = torch.from_numpy(rng.child("split", epoch).numpy().permutation(len(learnt.x)))
            split = shuffled.view(-1, self.batch_size).to(x.device)
            grown, tables = [], []
            for start, weights in enumerate(starts):
                trained = every_order(network, weights, learnt.x[split], learnt.y[split], lr=self.lr)
                found = answers(network, trained.weights, x, y, batch_size=model.batch_size)
                loss, right = found.loss.double(), found.right.double()
                grown.append(trained.weights)
                columns = {
                    "order": ["".join(map(str, order)) for order in trained.orders],
                    "selection_loss": loss[:, on_held].mean(1).cpu().numpy(),
                    "selection_accuracy": right[:, on_held].mean(1).cpu().numpy(),
                    "loss": loss[:, on_test].mean(1).cpu().numpy(),
                    "accuracy": right[:, on_test].mean(1).cpu().numpy(),
                }
                tables.append(pd.DataFrame({"epoch": epoch, "start": start, **columns}))
            rows = pd.concat(tables, ignore_index=True)
            rows = rows.assign(cluster=-1, chosen=0, n_selection=len(held.x), n=len(test.x))
            _require_finite(rows, epoch)
            if epoch < self.epochs:
                seed = rng.child("clusters", epoch).key & 0x7FFFFFFF
                groups = clustered(rows["selection_loss"].to_numpy(), self.clusters, seed=seed)
                rows["cluster"] = groups.of
                rows.loc[groups.chosen, "chosen"] = 1
                orders = len(rows) // len(starts)
                starts = [one_of(grown[i // orders], i % orders) for i in groups.chosen.tolist()]
            yield rows

    def summary(self, table: pd.DataFrame) -> tuple[Measurement, ...]:
        """Return how the networks of the last epoch answer the measured images."""
        last = table[table["epoch"] == table["epoch"].max()]
        n = int(last["n"].iloc[0])
        accuracy, loss = last["accuracy"], last["loss"]
        numbers = {
            "accuracy_min_last_epoch": accuracy.min(),
            "accuracy_mean_last_epoch": accuracy.mean(),
            "accuracy_max_last_epoch": accuracy.max(),
            "loss_min_last_epoch": loss.min(),
            "loss_max_last_epoch": loss.max(),
        }
        return tuple(Measurement(name, float(value), None, None, n) for name, value in numbers.items())

    def misfit(self, network: nn.Module) -> str | None:
        """Return why copies of such a network cannot be trained at once; ``None`` if they can."""
        name = type(network_inside(network)).__name__
        if isinstance(network, StochasticModule) and network.stochastic:
            return f"perfect_order: expected a network that draws nothing, got {name}; take another one"
        for module in network.modules():
            if _is_another_in_training(module):
                return (
                    f"perfect_order: expected a network without batch normalisation and dropout, got {name} with "
                    f"{type(module).__name__}; take one such as plain_cnn"
                )
        weights = sum(weight.numel() for weight in network.parameters())
        most = math.factorial(self._batches) * (self.clusters if self.epochs > 1 else 1)
        if 4 * weights * most > MEMORY:
            return (
                f"perfect_order: expected at most {MEMORY >> 30} GiB of weights, got {most:,} copies of {name} with "
                f"{weights:,} weights each, {4 * weights * most / (1 << 30):,.1f} GiB; take a smaller network, or "
                "fewer batches or clusters"
            )
        return None

    def lacks(self, measured: Labels, training: Int[Tensor, " m"] | None) -> str | None:
        """Return which images are missing; ``None`` if none are."""
        if training is None:
            return (
                "perfect_order: expected training images, got none; take a set that has some, or name them "
                "(pool = in [data])"
            )
        kept = int(self.reference == "validation")
        for label in self.classes:
            if (got := int((training == label).sum())) < self.per_class + kept:
                more = " and one to select by" if kept else ""
                return (
                    f"perfect_order: expected at least {self.per_class + kept} training images of class {label} "
                    f"({self.per_class} to train on{more}), got {got}; give more, or a smaller per_class"
                )
            if not int((measured == label).sum()):
                return (
                    f"perfect_order: expected test images of class {label}, got none; measure more images (n)"
                )
        return None

    def cost(self, images: int, classes: int) -> Passes:
        """Return the steps of all networks, and a pass of every image through each of them."""
        orders = [math.perm(self._batches, k) for k in range(1, self._batches + 1)]
        starts = 1 + self.clusters * (self.epochs - 1)
        steps = starts * sum(orders) * self.batch_size
        held = self.held_out * len(self.classes) if self.reference == "validation" else 0
        return Passes(steps + starts * orders[-1] * (images + held), steps)

    @property
    def _batches(self) -> int:
        return self.per_class * len(self.classes) // self.batch_size

    @property
    def _told(self) -> str:
        """What so many batches cost; in words where the number has too many digits."""
        if self._batches > 20:
            return f"{self._batches}! orders, more than anybody can train"
        orders = math.factorial(self._batches)
        networks = orders * (1 + self.clusters * (self.epochs - 1))
        epochs = f"{self.epochs} epoch{'s' * (self.epochs > 1)}"
        return f"{self._batches}! = {orders:,} orders and {networks:,} networks to train in {epochs}"

    def _drawn(self, y: Labels, rng: Rng) -> tuple[Int[Tensor, " i"], Int[Tensor, " k"]]:
        """Draw the images of the batches and those that are held out, from all training images of each class."""
        inside, kept = [], []
        for label in self.classes:
            found = _of(y, (label,))
            mixed = found[
                torch.from_numpy(rng.child("images", label).numpy().permutation(len(found))).to(y.device)
            ]
            inside.append(mixed[: self.per_class])
            kept.append(mixed[self.per_class : self.per_class + self.held_out])
        return torch.cat(inside), torch.cat(kept)


def _of(y: Labels, classes: tuple[int, ...]) -> Int[Tensor, " k"]:
    """Return the positions of the images of some classes."""
    return torch.isin(y, torch.tensor(classes, device=y.device)).nonzero()[:, 0]


def _is_another_in_training(module: nn.Module) -> bool:
    statistics = getattr(module, "running_mean", None) is not None
    normalises = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return normalises or statistics or isinstance(module, nn.modules.dropout._DropoutNd)


def _require_finite(rows: pd.DataFrame, epoch: int) -> None:
    lost = int((~np.isfinite(rows[["selection_loss", "loss"]]).all(axis=1)).sum())
    if lost:
        raise DataError(
            f"perfect_order: expected finite losses, got {lost:,} of {len(rows):,} networks without one after epoch "
            f"{epoch}; give a smaller lr"
        )
