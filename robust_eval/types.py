"""The few types everything is written in: tensors with their shapes, and what an adversary may do."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from robust_eval.fields import Whole
from robust_eval.moved import found_elsewhere
from robust_eval.rng import Rng

__all__ = [
    "AsksProgress",
    "AttackResult",
    "Images",
    "Labels",
    "Logits",
    "Mask",
    "Severity",
    "StochasticModule",
    "Weights",
]

Images = Float[Tensor, "n c h w"]
"""A batch of images in the [0, 1] pixel range."""
Labels = Int[Tensor, " n"]
Logits = Float[Tensor, "n k"]
Weights = Float[Tensor, " n"]
"""How much each image counts."""
Mask = Bool[Tensor, " n"]


Severity = Annotated[Whole, Field(ge=1, le=5)]


class AttackResult(NamedTuple):
    """What an attack hands back; whether it succeeded is measured again by the evaluator."""

    x_adv: Images
    """Perturbed images in [0, 1]. Where nothing was found: the clean image from a minimal-norm attack, the last
    point of the walk from one with a fixed radius, which a defended model may still fall for.
    """
    step: Int[Tensor, " n"]
    """The step at which each example was first fooled (0 is the start), -1 if never."""
    target: Labels | None = None
    """The class each example was pushed to, if the attack is targeted."""


@runtime_checkable
class AsksProgress(Protocol):
    """A module of a network that changes as training goes on, and asks how far it is."""

    def at_progress(self, progress: float) -> None:
        """Take in how much of the training is done, from 0 to 1; said before each batch."""


class StochasticModule(nn.Module):
    """A network whose output depends on draws: they are fixed by ``redraw`` until the next call of it."""

    stochastic: bool = True
    copies: int = 1
    """Images that pass through the network for one image; batches are split by it."""
    evaluations: int = 1
    """Draws that one forward pass averages over: each counts as a pass of its own."""
    at_once: int | None = None
    """Images that fit the memory with their graph, told before each pass, for one that can do with fewer."""

    def redraw(self, rng: Rng) -> None:
        """Fix the draws of the next forward passes; ``rng`` carries one row for each image of the batch."""
        raise NotImplementedError


def __getattr__(name: str) -> Any:
    return found_elsewhere(__name__, name)
