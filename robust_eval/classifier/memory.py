"""How many images may pass through a network at a time, by the memory that a gradient takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robust_eval.classifier.freeze import frozen
from robust_eval.machine import available
from robust_eval.types import Images

__all__ = ["bytes_per_image", "images_that_fit"]

SHARE = 0.25
"""Of the free memory, what activations may take: the backward pass needs as much again for a while."""


def images_that_fit(network: nn.Module, x: Images) -> int | None:
    """Return for how many images like ``x`` [1,c,h,w] a gradient fits the memory of their device.

    ``None`` where that cannot be told: the system does not say how much is free, or the network does not answer.
    """
    free = available(x.device)
    needed = bytes_per_image(network, x)
    if free is None or not needed:
        return None
    return max(1, int(SHARE * free / needed))


def bytes_per_image(network: nn.Module, x: Images) -> int | None:
    """Return the bytes per image that a forward pass of ``x`` [n,c,h,w] keeps for its backward pass, weights aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(tensor: Any) -> Any:
        return tensor

    try:
        with frozen(network), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            # a network may write into what it is given
            out = network(x.detach().requires_grad_().clone())
        del out
    except RuntimeError:
        return None
    return sum(kept.values()) // max(len(x), 1)
