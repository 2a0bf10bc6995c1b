"""Shares a training out among the processes that ``torchrun`` started: each takes its part of every batch.

The gradient is the mean over the processes, so that without BatchNorm, and for a loss that is a mean over the images,
it is that of the whole batch. A regularizer mixes images of its own part only, and BatchNorm sees that part.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Shaped
from torch import Tensor

from robust_eval.errors import ConfigError
from robust_eval.methods import Regularizer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["cost_of", "gathered", "mean_of", "part_of", "set_up", "started", "together"]


def started(device: str) -> Fabric:
    """Return the Fabric of this process, alone or one of those of ``torchrun``."""
    from lightning_fabric import Fabric  # slow to import, and only training needs it

    named, world = torch.device(device), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Fabric(accelerator=named.type, devices=1 if named.index is None else [named.index])
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    fabric = Fabric(accelerator=named.type, devices=local, num_nodes=world // local, strategy="ddp")
    fabric.launch()
    return fabric


def set_up(optimizer: torch.optim.Optimizer, fabric: Fabric) -> torch.optim.Optimizer:
    """Return the optimizer as Fabric wants to step it."""
    return cast("torch.optim.Optimizer", fabric.setup_optimizers(optimizer))


def part_of(index: Shaped[Tensor, " n"], fabric: Fabric) -> Shaped[Tensor, " m"]:
    """Return this process's part of a batch: of its positions, or of what belongs to them.

    Raises ``ConfigError`` where the processes cannot have equal parts of two images or more.
    """
    world = fabric.world_size
    if world == 1:
        return index
    if len(index) % world or len(index) < 2 * world:
        raise ConfigError(
            f"batch_size: expected a multiple of {world}, the number of processes, and two images for each, "
            f"got {len(index)}"
        )
    return index.view(world, -1)[fabric.global_rank]


def cost_of(regularizer: Regularizer, batch_size: int, fabric: Fabric) -> int:
    """Return the network evaluations of a batch, in all processes together."""
    here = len(part_of(torch.arange(batch_size), fabric))
    return regularizer.evaluations(here) * fabric.world_size


def mean_of(value: Tensor, fabric: Fabric) -> Tensor:
    """Return the mean over the processes."""
    mean = fabric.all_reduce(value, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def gathered(value: Shaped[Tensor, "m *shape"], fabric: Fabric) -> Shaped[Tensor, "n *shape"]:
    """Return the parts of all processes, one after the other."""
    if fabric.world_size == 1:
        return value
    parts = fabric.all_gather(value)
    assert isinstance(parts, Tensor)
    return parts.flatten(0, 1)


def together(value: Any, fabric: Fabric) -> Any:
    """Return what the first process has for all of them."""
    return value if fabric.world_size == 1 else fabric.broadcast(value)
