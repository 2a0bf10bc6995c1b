"""How a model is trained, as data: everything that decides its weights, and nothing about where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import Field
from torch import nn

from robust_eval.data import Examples
from robust_eval.methods import Architecture, Regularizer
from robust_eval.registry import checked, describe

__all__ = ["Recipe", "Train", "Trained"]

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@checked
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe for every regularizer, so that a table of differences means something.

    The budget is counted in network evaluations: ``epochs`` times the number of training images. A method
    that spends several evaluations on an image (an attack in the loss) takes fewer steps, one that mixes
    several images into one takes more.
    """

    architecture: Architecture
    regularizer: Regularizer
    epochs: Positive = 30.0
    """Budget in passes over the training data, counted in network evaluations."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    """``sgd`` is Nesterov's with momentum 0.9."""
    lr: Positive = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    """Per stage, with a linear warm-up over the first 5 % of its steps."""
    validation: Fraction = 0.1
    """Part of the training data held out, stratified and never augmented, to watch progress."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Zero padding in pixels before a random crop to the original size; 0 = no crop."""
    flip: bool = False
    """Whether images are mirrored at random."""
    mean: tuple[float, ...] | None = None
    std: tuple[Positive, ...] | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"expected mean and std together, got mean={self.mean!r} and std={self.std!r}")

    def spec(self) -> dict[str, Any]:
        """Return the recipe as plain data, methods as name, parameters and version."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["architecture"] = describe(self.architecture)._asdict()
        fields["regularizer"] = describe(self.regularizer)._asdict()
        return fields


class Trained(NamedTuple):
    """What training gives back."""

    network: nn.Module
    """Maps images in [0, 1] to logits: the normalisation, if any, is inside."""
    history: list[dict[str, Any]]
    """One row per pass over the training data: stage, evaluations, loss, validation_accuracy, lr."""
    evaluations: int
    """Images that went through the network for training, attacks inside the loss included."""


@runtime_checkable
class Train(Protocol):
    """A trainer, handed to :func:`robust_eval.run.run` by whoever sees both sides."""

    def __call__(
        self, recipe: Recipe, examples: Examples, *, device: str, report: Callable[[float, str], None]
    ) -> Trained:
        """Train by ``recipe``; ``report(fraction_done, text)`` is called now and then."""
