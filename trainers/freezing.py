"""Holds layers of a network still while the others are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from robust_eval.errors import ConfigError
from trainers.hidden import layers_of

__all__ = ["frozen_layers"]


def frozen_layers(network: nn.Module, layers: Sequence[str]) -> Callable[[], None]:
    """Freeze layers by name; return what puts the network in train mode, all but these.

    Their weights need no gradient, and their statistics stay, which train mode would change. Raises ``ConfigError``
    for a layer that the network does not have, or if nothing is left to train.
    """
    still: list[nn.Module] = []
    if layers:
        present = [*layers_of(network)[1:], "head"]
        stages: Any = network.stages
        if missing := [layer for layer in layers if layer not in present]:
            raise ConfigError(
                f"freeze: expected some of {', '.join(present)}, which this network has, got {', '.join(missing)}"
            )
        still = [stage for name, stage in zip(present, stages, strict=True) if name in layers]
        for stage in still:
            stage.requires_grad_(False)
        if not any(weight.requires_grad for weight in network.parameters()):
            raise ConfigError(
                f"freeze: expected a layer left to train, got {', '.join(layers)}: that is all of them"
            )

    def set_mode() -> None:
        network.train()
        for stage in still:
            stage.eval()

    return set_mode
