"""What analyses look at: the stages of a network, and a second set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from robust_eval.adaptive import GlobalDraws
from robust_eval.classifier.normalized import Normalized
from robust_eval.data import require_same_shape
from robust_eval.errors import ConfigError, DataError
from robust_eval.methods import Batch
from robust_eval.types import Images

__all__ = ["compared", "in_parts", "network_inside", "normal_interval", "reason", "stages_of"]

Z = 1.959964
"""Half the width of a 95 % interval, in standard errors."""


def network_inside(network: nn.Module) -> nn.Module:
    """Return the network without the normalisation and the seeding that may be around it."""
    while isinstance(network, Normalized | GlobalDraws):
        network = network.network
    return network


def stages_of(analysis: str, network: nn.Module) -> dict[str, nn.Module]:
    """Return the stages of a network by name: stem, stage1, ..., head; the normalisation is part of the first.

    Raises ``DataError`` for a network without ``stages``.
    """
    network = network.network if isinstance(network, GlobalDraws) else network
    found: Any = getattr(network, "stages", None)
    stages = [] if found is None else list(found)
    if len(stages) < 2:
        got = type(network_inside(network)).__name__
        raise DataError(
            f"{analysis}: expected a network in stages (an attribute 'stages': modules that make up its forward, the "
            f"last one its head), got {got}; use an architecture of this package, or give yours one"
        )
    names = ["stem", *(f"stage{i}" for i in range(1, len(stages) - 1)), "head"]
    return dict(zip(names, stages, strict=True))


def reason(attempt: Callable[[], object]) -> str | None:
    """Return why an attempt is refused, ``None`` where it is not."""
    try:
        attempt()
    except (ConfigError, DataError) as error:
        return str(error)
    return None


def in_parts(x: Images, size: int) -> Iterator[Images]:
    """Yield copies of the images, so many at a time: a network may write into what it is given."""
    for part in torch.split(x, size):
        yield part.clone()


def compared(analysis: str, images: Batch, other: Batch | None) -> Batch:
    """Return the second set; raises ``DataError`` if there is none, or none of the same shape."""
    if other is None or not len(other.x):
        raise DataError(
            f"{analysis}: expected another set of images to compare with, got none; name one (other)"
        )
    require_same_shape(analysis, tuple(images.x.shape[1:]), tuple(other.x.shape[1:]))
    return other


def normal_interval(value: float, error: float) -> tuple[float | None, float | None]:
    """Return value ± 1.96 standard errors; no interval where the error is not known."""
    return (value - Z * error, value + Z * error) if error == error else (None, None)
