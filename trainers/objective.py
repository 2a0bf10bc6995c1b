"""Makes one module of a network, its regularizer and what that trains beside it, whose output is the loss.

A distributed trainer must wrap this module and not the network: gradients are reduced when the forward of the
*wrapped* module is called, while a loss may call the network as often, and in whatever parts, as it likes.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.methods import Regularizer
from robust_eval.rng import Rng
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import AsksProgress, Images, Labels, Weights
from trainers.expected import expect_loss

__all__ = ["Objective"]


class Objective(nn.Module):
    """The loss of a batch as a module: ``objective(x, y, rng, progress, weights)``."""

    def __init__(
        self,
        network: nn.Module,
        regularizer: Regularizer,
        precision: Literal["fp32", "bf16"] = "fp32",
        companion: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.mixed_precision = precision == "bf16"
        self.network = network
        self.regularizer = regularizer
        self.companion = companion
        self.asking = [module for module in network.modules() if isinstance(module, AsksProgress)]

    def forward(
        self, x: Images, y: Labels, rng: Rng, progress: float, weights: Weights | None = None
    ) -> Float[Tensor, ""]:
        """Return the scalar loss of one batch; it is given weights and a companion where there are such."""
        for module in self.asking:
            module.at_progress(progress)
        extras: dict[str, Any] = {"weights": weights, "companion": self.companion}
        given = {name: value for name, value in extras.items() if value is not None}
        # not left to Fabric, which cannot pass a random stream through its own conversion
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed_precision), surroundings_kept():
            loss: object = self.regularizer.loss(self.network, x, y, rng=rng, progress=progress, **given)
        return expect_loss(self.regularizer, loss)
