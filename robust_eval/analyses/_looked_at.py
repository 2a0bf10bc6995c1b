"""What analyses look at: the stages of a network, and a second set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from robust_eval.adaptive import GlobalDraws
from robust_eval.classifier.dtypes import InItsDtype, is_list_of_modules
from robust_eval.classifier.normalized import Normalized
from robust_eval.data import require_same_shape
from robust_eval.errors import ConfigError, DataError
from robust_eval.methods import Batch
from robust_eval.types import Images

__all__ = ["compared", "in_parts", "network_inside", "normal_interval", "reason", "stages_of"]

Z = 1.959964
"""Half the width of a 95 % interval, in standard errors."""


def network_inside(network: nn.Module) -> nn.Module:
    """Return the network without the normalisation, the cast and the seeding that may be around it."""
    while isinstance(network, Normalized | InItsDtype | GlobalDraws):
        network = network.network
    return network


def stages_of(analysis: str, network: nn.Module) -> dict[str, nn.Module]:
    """Return the stages of a network by name: stem, stage1, ..., head; the normalisation is part of the first.

    Raises ``DataError`` for a network without ``stages``.
    """
    network = network.network if isinstance(network, GlobalDraws) else network
    found: Any = getattr(network, "stages", None)
    stages = list(found) if is_list_of_modules(found) else []
    missing = "" if found is None else _beside(network, stages)
    if len(stages) < 2 or missing:
        got = f"{type(network_inside(network)).__name__}{missing}"
        raise DataError(
            f"{analysis}: expected a network in stages (an attribute 'stages': modules that make up its forward, the "
            f"last one its head), got {got}; use an architecture of this package, or give yours one"
        )
    names = ["stem", *(f"stage{i}" for i in range(1, len(stages) - 1)), "head"]
    return dict(zip(names, stages, strict=True))


def _beside(network: nn.Module, stages: list[nn.Module]) -> str:
    """Return what says that ``stages`` are others than those asked for: the middle of a network, or a count."""
    if not stages:
        return ", whose 'stages' are no list of modules"
    inside = {id(weight) for stage in stages for weight in stage.parameters()}
    outside = [name for name, weight in network.named_parameters() if id(weight) not in inside]
    return f", whose 'stages' leave out {outside[0]}" if outside else ""


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
