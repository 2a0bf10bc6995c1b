"""Networks in another precision than float32: asked in their own dtype, they answer in that of the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robust_eval.types import Images, StochasticModule

__all__ = ["InItsDtype", "answered_in", "dtype_of", "in_its_dtype", "is_list_of_modules"]


class InItsDtype(nn.Module):
    """A network given images in ``dtype``; its logits come back in the dtype of the images, or in float32 at least."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.training = getattr(network, "training", False)

    def forward(self, x: Images) -> Any:
        """Return what the network answers."""
        return answered_in(x.dtype, self.network(x.to(self.dtype)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InItsDtype:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.dtype = dtype_of(self.network) or self.dtype  # which double() and to() change
        return self

    @property
    def stages(self) -> Any:
        """The stages of the network; images are cast before the first, and nothing behind it."""
        stages: Any = self.network.stages
        if not is_list_of_modules(stages):
            return stages
        first, *rest = stages
        return [_Cast(first, self.dtype), *rest]


class _Cast(nn.Module):
    def __init__(self, stage: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = stage
        self.dtype = dtype

    def forward(self, x: Images) -> Any:
        return self.network(x.to(self.dtype))


def is_list_of_modules(stages: object) -> bool:
    """Whether this may be the stages of a network: others call a number by that name."""
    if not isinstance(stages, list | tuple | nn.Sequential | nn.ModuleList) or not len(stages):
        return False
    return all(isinstance(stage, nn.Module) for stage in stages)


def answered_in(dtype: torch.dtype, answer: Any) -> Any:
    """Return logits in this dtype, or in float32 where it is narrower; another answer as it is."""
    if not isinstance(answer, Tensor) or not answer.is_floating_point():
        return answer
    return answer.to(torch.promote_types(dtype, torch.float32))


def dtype_of(network: nn.Module) -> torch.dtype | None:
    """Return the dtype that all floating-point weights share: ``None`` where they do not, or are cared for inside."""
    if any(isinstance(module, InItsDtype) for module in network.modules()):
        return None
    found = {weight.dtype for weight in network.parameters() if weight.is_floating_point()}
    found = found or {buffer.dtype for buffer in network.buffers() if buffer.is_floating_point()}
    return found.pop() if len(found) == 1 else None


def in_its_dtype(network: nn.Module) -> nn.Module:
    """Return a network that takes images of any dtype, itself where its weights are float32 or of several dtypes.

    One whose draws are set from outside is left as it is: what it draws is mixed with images as they come.
    """
    dtype = dtype_of(network)
    if dtype is None or dtype == torch.float32 or isinstance(network, StochasticModule):
        return network
    return InItsDtype(network, dtype)
