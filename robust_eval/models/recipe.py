"""How a model is trained, as data: everything that decides its weights, and nothing about where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import Field
from torch import nn

from robust_eval.data import Examples
from robust_eval.fields import Positive, Real, Seed, Whole
from robust_eval.identity import file_sha256
from robust_eval.methods import Architecture, Curriculum, Regularizer
from robust_eval.models.start import StartHead
from robust_eval.paths import is_file, shown, what_is
from robust_eval.registry import checked, describe, described

__all__ = ["NO_JOURNAL", "Journal", "Recipe", "Train", "Trained"]

ADAPTIVE = ("adam", "adamw", "adagrad", "rmsprop")
Fraction = Annotated[Real, Field(ge=0, lt=1)]


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
    curriculum: Curriculum | None = None
    """Which images come next and how much they count; ``None`` is ``shuffled``."""
    epochs: Positive = 30.0
    """Budget in passes over the training data, counted as ``budget`` says."""
    budget: Literal["evaluations", "steps"] = "evaluations"
    """``evaluations``: images through the network, those that a curriculum scores included, a forward pass alone for a
    third. ``steps``: gradient steps, as many as plain passes take, whatever they cost."""
    batch_size: Annotated[Whole, Field(ge=2)] = 128
    optimizer: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"] = "sgd"
    """``adamw`` decays weights apart from the gradient; the others add the decay to it."""
    momentum: Fraction = 0.9
    """Of ``sgd`` and ``rmsprop``."""
    nesterov: bool = True
    """Whether ``sgd`` takes Nesterov's momentum or the heavy ball."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decays of the averages of ``adam`` and ``adamw``: of the gradient and of its square."""
    smoothing: Fraction = 0.99
    """Decay of the average of squares of ``rmsprop``."""
    epsilon: Positive | None = None
    """What ``adam``, ``adamw``, ``adagrad`` and ``rmsprop`` add to the root that they divide by; PyTorch's if left out:
    1e-8, 1e-10 of ``adagrad``."""
    lr: Positive = 0.1
    weight_decay: Annotated[Real, Field(ge=0)] = 5e-4
    schedule: Literal["cosine", "constant", "step", "multi_step", "one_cycle", "halve_on_plateau"] = "cosine"
    """Per stage. ``step`` multiplies by ``decay`` after each ``step_every`` of the stage, ``multi_step`` at each of the
    ``milestones``, ``halve_on_plateau`` halves after ``patience`` steps without a new lowest running loss. All but
    ``one_cycle`` (Smith and Topin 2018, arXiv 1708.07120) rise linearly over the first ``warm_up`` of the stage."""
    warm_up: Fraction = 0.05
    step_every: Annotated[Real, Field(gt=0, le=1)] = 0.3
    """Part of a stage between two steps down."""
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    """Parts of a stage after which the rate steps down."""
    decay: Annotated[Real, Field(gt=0, le=1)] = 0.1
    patience: Annotated[Whole, Field(ge=1)] = 300
    ema: Fraction = 0.0
    """Decay per step of a running average of the weights and statistics, which is then what is validated and
    returned; 0 averages nothing."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` computes forward and backward passes in mixed precision."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights of the last stage come back: the last ones, or those of the highest validation accuracy. Test
    images are never looked at in training."""
    freeze: tuple[Literal["stem", "stage1", "stage2", "stage3", "stage4", "head"], ...] = ()
    """Layers whose weights and statistics stay as they are."""
    start: Path | None = None
    """Weights of the same architecture to start from; ``None`` draws them. In an experiment file, relative to it."""
    start_head: StartHead = "load"
    """Whether the head is loaded too, or is ``new``: for weights of other classes, or without a head."""
    validation: Fraction = 0.1
    """Part of the training data held out, stratified and never augmented, to watch progress."""
    crop: Annotated[Whole, Field(ge=0)] | Literal["resized"] = 0
    """Zero padding in pixels before a random crop to the original size; 0 = no crop. ``resized`` crops boxes of 8 % to
    100 % of the image and resizes them (Szegedy et al. 2015, arXiv 1409.4842), as is usual for ImageNet."""
    flip: bool = False
    """Whether images are mirrored at random."""
    mean: tuple[Real, ...] | None = None
    std: tuple[Positive, ...] | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"expected mean and std together, got mean={self.mean!r} and std={self.std!r}")
        if self.checkpoint == "best" and not self.validation:
            raise ValueError("expected validation > 0 with checkpoint='best', which is chosen by it, got 0")
        weighs = self.curriculum is not None and self.curriculum.weighs
        if weighs and not self.regularizer.takes_weights:
            raise ValueError(
                f"expected a regularizer that takes weights with {self.curriculum!r}, got {self.regularizer!r}; "
                "take another, or a curriculum that weighs nothing"
            )
        if self.curriculum is not None and self.curriculum.looks_at_held_out and not self.validation:
            raise ValueError(
                f"expected validation > 0 with {self.curriculum!r}, which chooses by images held out, got 0"
            )
        if self.start is not None and not is_file(self.start):
            raise ValueError(
                f"start: expected a weights file, got {shown(self.start)!r}, where there is {what_is(self.start)}"
            )
        known = {"betas": ("adam", "adamw"), "smoothing": ("rmsprop",), "epsilon": ADAPTIVE}
        for name, optimizers in known.items():
            if getattr(self, name) != _ADDED[name] and self.optimizer not in optimizers:
                raise ValueError(
                    f"{name}: is of {', '.join(optimizers)}, got optimizer {self.optimizer!r}; leave it out"
                )
        if self.start is None and self.start_head == "new":
            raise ValueError("expected start with start_head='new', got none; give the weights to start from")

    def spec(self) -> dict[str, Any]:
        """Return the recipe as plain data, methods as name, parameters and version."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["architecture"] = described(self.architecture)
        fields["regularizer"] = described(self.regularizer)
        # what is as it was before there was a choice has the key that it had
        curriculum, budget = fields.pop("curriculum"), fields.pop("budget")
        if curriculum is not None and describe(curriculum).name != "shuffled":
            fields["curriculum"] = described(curriculum)
        if budget != "evaluations":
            fields["budget"] = budget
        # what the file holds decides the weights, not what it is called
        fields["start"] = None if self.start is None else file_sha256(self.start)
        for name, usual in _ADDED.items():  # as before there was a choice
            if fields[name] == usual:
                del fields[name]
        return fields


_ADDED = {"start_head": "load", "betas": (0.9, 0.999), "smoothing": 0.99, "epsilon": None}
"""Fields that a spec has where they are not as they were before there was a choice."""


class Journal(NamedTuple):
    """What training writes down on its way. Nothing of it changes the weights."""

    folder: Path | None = None
    """Where ``log.csv``, TensorBoard's events and, until it is done, the state to resume from are kept."""
    robust_every: int = 0
    """After how many passes the accuracy under PGD is measured on held-out images; 0 = never."""
    tensorboard: bool = False

    def attacks_after(self, passes: int) -> bool:
        """Whether the accuracy under PGD is measured after so many passes."""
        return self.robust_every > 0 and passes % self.robust_every == 0


NO_JOURNAL = Journal()
"""Writes nothing down."""


class Trained(NamedTuple):
    """What training gives back."""

    network: nn.Module
    """Maps images in [0, 1] to logits: the normalisation, if any, is inside."""
    history: list[dict[str, Any]]
    """One row per pass over the training data: stage, evaluations, steps, loss, train_accuracy, validation_accuracy,
    test_accuracy if it is watched, robust_accuracy, weight_norm (L2 of all weights), lr and used (share of the training
    images ever chosen). With noise on the labels also untouched_accuracy and corrupted_accuracy, on the training images
    whose labels are the true ones and on the others, and wrong_chosen and wrong_weight, the share of the others in the
    pass, by number and by weight."""
    evaluations: int
    """Images that went through the network for training, attacks inside the loss and questions of the curriculum
    included."""
    steps: int
    """Gradient steps."""
    usage: dict[str, Any]
    """Which images were trained on: used (the share ever chosen), chosen_by_class."""


@runtime_checkable
class Train(Protocol):
    """A trainer, handed to :func:`robust_eval.run.run.run` by whoever sees both sides."""

    def __call__(
        self,
        recipe: Recipe,
        examples: Examples,
        *,
        device: str,
        report: Callable[[float, str], None],
        journal: Journal = ...,
        test: Examples | None = ...,
    ) -> Trained:
        """Train by ``recipe``; ``report(fraction_done, text)`` is called now and then.

        ``test`` images are for the log, and for a curriculum that says that it looks at them.
        """
