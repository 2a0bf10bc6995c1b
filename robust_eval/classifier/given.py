"""The networks that users hand over in Python, and what is said of those that cannot be asked."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import nn

from robust_eval.classifier.dtypes import in_its_dtype
from robust_eval.classifier.normalized import Normalized, Numbers
from robust_eval.classifier.passes import out_of_memory
from robust_eval.errors import ConfigError, DataError
from robust_eval.types import Images, StochasticModule

if TYPE_CHECKING:
    Network = nn.Module
else:  # what is none is told in words of ours, not of whoever checks types at run time
    Network = Any

__all__ = [
    "Network",
    "answering",
    "black_box",
    "device_of",
    "expect_count",
    "network_given",
    "say_if_training",
]

log = logging.getLogger(__name__)

_SAID: WeakSet[nn.Module] = WeakSet()


def network_given(network: Network, mean: Numbers | None, std: Numbers | None) -> nn.Module:
    """Return a network that takes images in [0, 1] of any dtype."""
    _expect_network(network)
    if mean is None and std is None:
        return in_its_dtype(network)
    if mean is None or std is None:
        raise ValueError(f"expected mean and std together, got mean={mean!r} and std={std!r}")
    if isinstance(network, StochasticModule):
        raise ConfigError(
            "normalisation: expected it inside a stochastic network, which mixes pixels in [0, 1], got mean and "
            "std around it; give Normalized(network, mean, std) to the defense"
        )
    return Normalized(in_its_dtype(network), mean, std)


def _expect_network(network: object) -> None:
    """Raise ``ConfigError`` for what is no network."""
    if isinstance(network, nn.Module):
        return
    got = type(network).__name__
    if inspect.isclass(network):
        got, fix = f"the class {network.__name__}", f"; give one of it, such as {network.__name__}()"
    elif isinstance(network, Mapping):
        fix = ", as weights are; give the network after net.load_state_dict(...)"
    elif isinstance(network, str):
        got, fix = repr(network), "; load it, and give the network"
    elif isinstance(getattr(network, "network", None), nn.Module):
        fix = "; give its .network"
    elif callable(network):
        fix = "; call it in the forward of an nn.Module"
    else:
        fix = ""
    raise ConfigError(f"model: expected a network (torch.nn.Module), got {got}{fix}")


def expect_count(name: str, value: object) -> None:
    """Raise ``ConfigError`` for what is no whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}: expected a whole number >= 1, got {value!r}")


def device_of(network: nn.Module) -> torch.device | None:
    """Return where a network computes first; ``None`` where nothing in it tells."""
    for tensors in (network.parameters(), network.buffers()):
        for tensor in tensors:
            return tensor.device
    return None


def black_box(network: nn.Module) -> bool:
    """Whether a network says that it answers and has no gradient, as a function of numpy's arrays does."""
    return any(getattr(module, "black_box", False) is True for module in network.modules())


def say_if_training(network: nn.Module) -> None:
    """Say once of a network in training mode, if that makes a difference to it, that it is asked in eval mode."""
    if network in _SAID or not any(map(_trains, network.modules())):
        return
    _SAID.add(network)
    log.warning(
        "%s is in training mode: it is asked in eval mode, and put back after each call",
        type(network).__name__,
    )


def _trains(module: nn.Module) -> bool:
    """Whether a module is in training mode and looks at it, as dropout and batch normalisation do."""
    if not getattr(module, "training", False):
        return False
    # a scripted module has a forward that a class cannot be asked for
    forward: Any = inspect.getattr_static(type(module), "forward", None)
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return code is not None and "training" in code.co_names


MISFITS = (
    "channels, but got",
    "shapes cannot be multiplied",
    "must match the size of tensor",
    "is invalid for input of size",
    "Kernel size can't be greater than actual input size",
    "Output size is too small",
    "on the same device",
    "should be the same",
    "to have the same dtype",
)
"""How torch says so."""


@contextmanager
def answering(x: Images) -> Iterator[None]:
    """Raise ``DataError`` where torch says that images are not what a network was made for; other errors stay."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error) or not any(words in str(error) for words in MISFITS):
            raise
        said = next(iter(str(error).splitlines()), type(error).__name__)
        shape = ",".join(map(str, x.shape))
        raise DataError(
            f"model: expected one that answers images [{shape}] on {x.device}, got an error ({said}); give "
            "images it was made for"
        ) from error
