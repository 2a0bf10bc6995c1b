"""A set with fewer training images or noisy training labels; its test images are the ones it has.

Subsets have equally many images of each class. The order in which images are taken depends on the seed only, so a
smaller subset is part of a larger one: the thesis's 100, 500 and 5,000 per class of CIFAR-10 lie in each other.

Label noise is symmetric (Zhang et al. 2018, https://arxiv.org/abs/1710.09412, section 3.4): exactly
``round(label_noise * n)`` of the ``n`` labels left are replaced, once, by the seed. Papers do not say whether the new
label may be the old one. Here ``any`` draws it from all K classes, so that a share of ``label_noise * (K - 1) / K`` is
really wrong, and ``other`` from the K - 1 wrong ones. Labels replaced at a lower noise are replaced at a higher one
too, by the same labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from robust_eval.data._examples import Examples
from robust_eval.data._source import Source
from robust_eval.errors import DataError
from robust_eval.fields import Real, Seed, Whole
from robust_eval.registry import checked
from robust_eval.rng import Rng
from robust_eval.types import Labels

__all__ = ["Altered", "NoisyLabels", "Part", "Seed", "noisy", "stratified"]

NoisyLabels = Literal["any", "other"]
Part = Annotated[Real, Field(ge=0, le=1)]


@checked
@dataclass(frozen=True, kw_only=True)
class Altered(Source):
    """A source whose training images are a subset, or carry label noise."""

    source: Source
    per_class: Annotated[Whole, Field(ge=1)] | None = None
    """How many training images of each class are kept; all for ``None``."""
    label_noise: Part = 0.0
    """Part of the training labels that is replaced."""
    noisy_labels: NoisyLabels = "any"
    """What labels are replaced by: ``any`` class, the true one too, or an ``other`` one."""
    seed: Seed = 0
    """Of which images are kept and which labels are replaced by what."""

    def __post_init__(self) -> None:
        for usual in ("crop", "flip", "mean", "std"):  # what is usual does not change with the labels
            object.__setattr__(self, usual, getattr(self.source, usual))

    @property
    def name(self) -> str:
        """The set's name with what was done to its training images; those of the test are as they were."""
        noise = f"{100 * self.label_noise:g}% label noise"
        return self._described(
            noise if self.label_noise else "", f"seed {self.seed}" if self.seed else "", of="training: "
        )

    def fetched_from(self) -> str | None:
        """Return what the source itself does."""
        return self.source.fetched_from()

    def test(self, n: int | None) -> Examples:
        """Return the first ``n`` test images as they are."""
        return self.source.test(n)

    def train(self) -> Examples:
        """Return the training images that are left, with the labels to train on."""
        rng = Rng(self.seed, ("data",))
        if self.per_class is None:
            found = self.source.train()
        else:
            per_class, name = self.per_class, self.source.name
            found = self.source.train_some(lambda labels: stratified(labels, per_class, name=name, rng=rng))
        if found is None:
            raise DataError(
                f"data {self.source.name}: per_class and label_noise are of training images, and it has none; "
                "leave them out, or give a set with a train split"
            )
        labels, true = found.labels, found.true_labels
        if self.label_noise:
            labels = noisy(
                found.labels,
                found.classes,
                self.label_noise,
                self.noisy_labels,
                name=self.source.name,
                rng=rng,
            )
            true = found.labels
        how = {"any": "drawn anew from all classes", "other": "replaced by wrong ones"}[self.noisy_labels]
        noise = f"{100 * self.label_noise:g}% of labels {how}" if self.label_noise else ""
        source = self._described(noise, f"seed {self.seed}")
        return replace(found, labels=labels, true_labels=true, source=source)

    def _described(self, *more: str, of: str = "") -> str:
        subset = f"{self.per_class} per class" if self.per_class is not None else ""
        return f"{self.source.name} ({of}{', '.join(filter(None, (subset, *more)))})"


def stratified(labels: Labels, per_class: int, *, name: str, rng: Rng) -> Int[Tensor, " k"]:
    """Return the positions, in order, of ``per_class`` examples of each class that there is.

    Raises ``DataError`` when a class has fewer.
    """
    counts = labels.bincount()
    present = counts.nonzero()[:, 0]
    rarest = present[counts[present].argmin()]
    if counts[rarest] < per_class:
        raise DataError(
            f"data {name}: expected at least {per_class} training images of each class, "
            f"got {counts[rarest]} of class {rarest}; lower per_class"
        )
    order = torch.randperm(len(labels), generator=rng.child("per_class").torch_generator())
    by_class = order[labels[order].argsort(stable=True)]
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    return by_class[place < per_class].sort().values


def noisy(labels: Labels, classes: int, part: float, to: NoisyLabels, *, name: str, rng: Rng) -> Labels:
    """Return the labels with ``round(part * n)`` of them replaced by draws from any class, or from the other ones."""
    if to == "other" and classes < 2:
        raise DataError(f"data {name}: expected at least 2 classes to draw wrong labels from, got {classes}")
    n = len(labels)
    replaced = torch.randperm(n, generator=rng.child("noise").torch_generator())[: round(part * n)]
    draws = rng.child("label").for_batch(n)
    new = draws.integers(classes) if to == "any" else (labels + 1 + draws.integers(classes - 1)) % classes
    result = labels.clone()
    result[replaced] = new[replaced].to(labels.dtype)
    return result
