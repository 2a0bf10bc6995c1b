"""Subtract a mean and divide by a standard deviation inside the model, so that attacks count in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from robust_eval.classifier.dtypes import is_list_of_modules
from robust_eval.errors import ConfigError
from robust_eval.types import Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = float | Sequence[float] | Tensor | NDArray[Any]
else:  # what they are not is told in words of ours, not of whoever checks types at run time
    Numbers = Any

__all__ = ["Normalized", "Numbers"]


class Normalized(nn.Module):
    """``network((x - mean) / std)`` for images in [0, 1]; one number per channel, or one for all of them.

    Raises ``ConfigError`` when the lengths differ, a mean is beyond 1 or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Numbers, std: Numbers) -> None:
        super().__init__()
        means, stds = _numbers("mean", mean), _numbers("std", std)
        if means.shape != stds.shape or not means.size:
            raise ConfigError(
                "normalisation: expected as many means as standard deviations, got "
                f"{means.tolist()} and {stds.tolist()}"
            )
        if stds.min() <= 0:
            raise ConfigError(f"normalisation: expected every std > 0, got {stds.tolist()}")
        if means.max() > 1:
            raise ConfigError(
                f"normalisation: expected every mean in [0, 1], as pixels are, got {means.tolist()}; "
                "divide mean and std by 255"
            )
        self.network = network
        self.register_buffer("mean", _per_channel(means), persistent=False)
        self.register_buffer("std", _per_channel(stds), persistent=False)

    def forward(self, x: Images) -> Tensor:
        """Map images in [0, 1] to what the network makes of them: logits, or a stage's features."""
        _expect_channels(x, self.mean)
        output: Tensor = self.network((x - self.mean.to(x)) / self.std.to(x))
        return output

    @property
    def stages(self) -> Any:
        """The stages of the network, the normalisation being part of the first; what is no list of modules as it is."""
        stages: Any = self.network.stages
        if not is_list_of_modules(stages):
            return stages
        first, *rest = stages
        return [
            Normalized(first, self.mean.squeeze((0, 2, 3)), self.std.squeeze((0, 2, 3))).to(self.mean.device)
            if self.mean.ndim
            else Normalized(first, self.mean, self.std).to(self.mean.device),
            *rest,
        ]


@fx.wrap
def _expect_channels(x: Images, mean: Tensor) -> None:
    """Kept whole when the module is traced, which cannot look inside a branch."""
    if mean.ndim and x.shape[1] != mean.shape[1]:
        raise ConfigError(
            f"normalisation: expected one mean per channel, got {mean.shape[1]} means "
            f"for images with {x.shape[1]} channels"
        )


def _numbers(name: str, given: Numbers) -> NDArray[np.float64]:
    try:
        found = np.asarray(given.tolist() if isinstance(given, Tensor) else given, dtype=np.float64)
    except (TypeError, ValueError):
        found = None
    if found is None or found.ndim > 1 or isinstance(given, str | bool):
        raise ConfigError(f"normalisation: {name}: expected one number per channel, got {given!r}")
    if not all(map(math.isfinite, found.flat)):
        raise ConfigError(f"normalisation: {name}: expected finite numbers, got {given!r}")
    return found


def _per_channel(numbers: NDArray[np.float64]) -> Tensor:
    """Return them for a batch [n,c,h,w]; one number for all channels stays without a dimension."""
    made = torch.tensor(numbers.tolist(), dtype=torch.float32)
    return made.view(1, -1, 1, 1) if made.ndim else made
