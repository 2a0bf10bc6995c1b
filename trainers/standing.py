"""Everything that a training step changes, so that a step can be undone, or put back without being taken again.

Nothing is copied to undo a step: weights, buffers and the optimizer's memory are set aside, and copies of them change
instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Standing", "Tried", "copied", "put", "standing"]


class Standing(NamedTuple):
    """Where a training stands, by reference."""

    weights: list[Tensor]
    buffers: list[Tensor]
    gradients: list[Tensor | None]
    memory: dict[Tensor, dict[str, Any]]
    """What the optimizer remembers of each weight; empty before its first step."""
    random: list[Tensor]
    """States of the generators that dropout draws from."""


class Tried(NamedTuple):
    """A step that was taken on trial and undone."""

    rows: Int[Tensor, " b"]
    """What it was taken on: positions in the training set."""
    loss: Float[Tensor, ""]
    after: Standing


def standing(objective: nn.Module, optimizer: torch.optim.Optimizer) -> Standing:
    """Return where a training stands."""
    return Standing(
        [weight.data for weight in objective.parameters()],
        [buffer.data for buffer in objective.buffers()],
        [weight.grad for weight in objective.parameters()],
        {weight: dict(kept) for weight, kept in optimizer.state.items()},
        [torch.get_rng_state(), *(torch.cuda.get_rng_state(place) for place in _gpus(objective))],
    )


def put(there: Standing, objective: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Have a training stand there. What it changes next is what ``there`` refers to."""
    for weight, value, gradient in zip(objective.parameters(), there.weights, there.gradients, strict=True):
        weight.data, weight.grad = value, gradient
    for buffer, value in zip(objective.buffers(), there.buffers, strict=True):
        buffer.data = value
    optimizer.state.clear()
    optimizer.state.update({weight: dict(kept) for weight, kept in there.memory.items()})
    torch.set_rng_state(there.random[0])
    for state, place in zip(there.random[1:], _gpus(objective), strict=True):
        torch.cuda.set_rng_state(state, place)


def copied(there: Standing) -> Standing:
    """Return the same in memory of its own; gradients are replaced in a step, never changed."""
    return there._replace(
        weights=[weight.clone() for weight in there.weights],
        buffers=[buffer.clone() for buffer in there.buffers],
        memory={
            weight: {
                name: value.clone() if isinstance(value, Tensor) else value for name, value in kept.items()
            }
            for weight, kept in there.memory.items()
        },
    )


def _gpus(objective: nn.Module) -> set[torch.device]:
    return {weight.device for weight in objective.parameters() if weight.is_cuda}
