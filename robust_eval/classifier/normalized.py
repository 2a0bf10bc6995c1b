"""Subtract a mean and divide by a standard deviation inside the model, so that attacks count in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from robust_eval.classifier.dtypes import is_list_of_modules
from robust_eval.errors import ConfigError
from robust_eval.types import Images

__all__ = ["Normalized"]


class Normalized(nn.Module):
    """``network((x - mean) / std)`` for images in [0, 1]; one number per channel.

    Raises ``ConfigError`` when the lengths differ or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise ConfigError(
                f"normalisation: expected as many means as standard deviations, got {list(mean)} and {list(std)}"
            )
        if min(std) <= 0:
            raise ConfigError(f"normalisation: expected every std > 0, got {list(std)}")
        self.network = network
        self.register_buffer(
            "mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False
        )

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
            Normalized(first, self.mean.flatten().tolist(), self.std.flatten().tolist()).to(self.mean.device),
            *rest,
        ]


@fx.wrap
def _expect_channels(x: Images, mean: Tensor) -> None:
    """Kept whole when the module is traced, which cannot look inside a branch."""
    if x.shape[1] != mean.shape[1]:
        raise ConfigError(
            f"normalisation: expected one mean per channel, got {mean.shape[1]} means "
            f"for images with {x.shape[1]} channels"
        )
