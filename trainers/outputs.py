"""Logits and last features of a whole training set: what selections are made by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robust_eval.classifier import frozen
from robust_eval.data import Examples
from robust_eval.errors import ConfigError
from robust_eval.methods import Outputs
from trainers.processes import gathered

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["last_linear", "outputs_of"]

AT_ONCE = 512
"""Images of one forward pass."""


def outputs_of(network: nn.Module, examples: Examples, fabric: Fabric) -> Outputs:
    """Return what the network makes of the images, in order, in eval mode, on the CPU.

    Raises ``ConfigError`` for a network without a linear layer at its end.
    """
    last = last_linear(network, of="curriculum")
    seen: list[Tensor] = []
    logits: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    # each process passes its own share, the last ones filled up to equal lengths
    world = fabric.world_size
    length = -(-len(examples) // world)
    rows = torch.arange(length * world) % len(examples)
    mine = torch.split(rows.view(world, length)[fabric.global_rank], AT_ONCE)
    try:
        with frozen(network), torch.no_grad():
            for x in examples.batches(mine):
                logits.append(network(x).float())
    finally:
        hook.remove()
    n = len(examples)
    features = torch.cat(seen).flatten(1).float()
    return Outputs(gathered(torch.cat(logits), fabric)[:n].cpu(), gathered(features, fabric)[:n].cpu())


def last_linear(network: nn.Module, *, of: str) -> nn.Linear:
    """Return the layer that maps features to logits; raises ``ConfigError``, in the name of who asks, without one."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError(
            f"{of}: expected a network that ends in a linear layer, whose input are the features, got "
            f"{type(network).__name__} without; use an architecture of this package"
        )
    return linear[-1]
