"""What a curriculum must be able to do: choose the images of the next step, and how much each counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.rng import Rng
from robust_eval.types import Labels, Logits, Weights

__all__ = ["FORWARD", "Choice", "Curriculum", "Order", "Outputs", "Reference", "Task", "Trial", "loss_alone"]

FORWARD = 1 / 3
"""Network evaluations that a forward pass alone counts for: the backward pass of a training step is two more."""


def loss_alone(per_image: float) -> float:
    """Return what the loss of a step counts for without its gradient, where the step counts ``per_image``.

    The last pass saves its way back; earlier ones, as those of an attack inside the loss, save nothing.
    """
    return max(FORWARD * per_image, per_image - (1 - FORWARD))


Rows = Int[Tensor, " b"]
"""Positions in the training set, on the CPU."""
Batches = Int[Tensor, "k b"]
"""Some batches, each a row of positions."""


class Task(NamedTuple):
    """What a curriculum chooses from, at the beginning of a stage."""

    labels: Labels
    """Given labels of the training images, on the CPU; they may be wrong."""
    classes: int
    batch_size: int
    held_out: int
    """Images that are not trained on."""
    rng: Rng
    test: int = 0
    """Test images that may be looked at: none, unless the recipe hands them over."""
    per_image: float = 1.0
    """Network evaluations that a step takes for each image of its batch."""

    @property
    def batches(self) -> int:
        """How many batches a pass has; what is left of it is dropped."""
        return len(self.labels) // self.batch_size


class Choice(NamedTuple):
    """What the next step trains on."""

    rows: Rows
    weights: Weights | None = None
    """How much each of them counts, only their ratios; ``None`` where all count alike."""


class Reference(NamedTuple):
    """Images by which steps are compared, other than those of the steps."""

    images: Literal["held_out", "test"]
    rows: Rows
    """Their positions among those."""


class Outputs(NamedTuple):
    """What a network makes of images."""

    logits: Logits
    features: Float[Tensor, "n d"]
    """What its last layer sees."""


@runtime_checkable
class Trial(Protocol):
    """What a curriculum may ask before it chooses. No question leaves a trace in the network or the optimizer."""

    @property
    def step(self) -> int:
        """Number of the coming step, from 0 in each stage."""

    @property
    def progress(self) -> float:
        """How much of the training is done, in [0, 1]."""

    def losses(self, batches: Batches) -> Float[Tensor, "k b"]:
        """Return the cross-entropy of each image of some batches, on the CPU.

        Each batch is augmented as it would be if it were trained on in the coming step, and passes through the network
        as a batch, in train mode.
        """

    def deltas(
        self, batches: Batches, reference: Reference | None = None, *, relative: bool = False
    ) -> Float[Tensor, " k"]:
        """Return by how much a step on each of some batches would lower a loss, on the CPU; every step is undone.

        The loss is that of the step on its own batch, with the same draws before and after, and ``relative`` divides by
        what it was; or the mean cross-entropy of the images of ``reference``, not augmented, in train mode.
        """

    def outputs(self) -> Outputs:
        """Return what the network makes of all training images, in eval mode and not augmented, on the CPU."""

    def losses_under(self, weights: Path) -> Float[Tensor, " n"]:
        """Return the cross-entropy of all training images under other weights, which are in a file, on the CPU.

        The network is that of the recipe, in eval mode, and images are not augmented. Raises ``CheckpointError`` for
        weights that do not fit it.
        """


class Order(ABC):
    """A curriculum at work on one stage: it remembers what it has chosen."""

    @abstractmethod
    def next(self, trial: Trial) -> Choice:
        """Return the images of the next step: as many as a batch has."""

    def state(self) -> dict[str, Any]:
        """Return what is to be remembered, as numbers, texts and tensors, so that a killed training goes on."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027 - one that remembers nothing has nothing to do
        """Go on from what :meth:`state` gave."""

    def follow(self, state: dict[str, Any]) -> None:  # noqa: B027 - most begin each stage anew
        """Begin a stage after another one, from what :meth:`state` gave at its end."""


class Curriculum(ABC):
    """A choice of the images, their order and their weights. Subclasses are frozen dataclasses."""

    asks: ClassVar[bool] = True
    """False if nothing is asked of the trial but the number of the step, and nothing remembered: images in files are
    then decoded before their turn."""

    @abstractmethod
    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` where the task is not for it."""

    @property
    def looks_at_held_out(self) -> bool:
        """Whether images held out for validation have a say in what is trained on."""
        return False

    @property
    def weighs(self) -> bool:
        """Whether images count unequally."""
        return False

    @property
    def looks_at_test(self) -> bool:
        """Whether test images decide what is trained on: a leak, which a record then says."""
        return False

    def evaluations(self, task: Task) -> float:
        """Return what the questions of a step cost, on average, in network evaluations."""
        return 0.0
