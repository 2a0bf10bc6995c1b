"""Names of weights, made those of the network they go into: wrappers put prefixes before them and others beside."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from robust_eval.models._content import some

__all__ = ["Beside", "follows_another", "named_for", "normalisation_beside", "required", "without_prefixes"]

# Put in front of every name by DataParallel, torch.compile and Lightning modules.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_CHANNELS = 16
"""Numbers that a normalisation of images has at most."""
_BOOKKEEPING = ("n_averaged", "total_ops", "total_params")
"""Counters that averaged models and THOP keep among the weights: nothing of them reaches an output."""

_MEANS = {"mean": "std", "mu": "sigma", "image_mean": "image_std", "means": "sds", "_mean": "_std"}
"""What the layers of a normalisation call their two tensors."""

log = logging.getLogger(__name__)


class Beside(NamedTuple):
    """The normalisation that a file holds beside the weights of its network."""

    place: str
    """What its names begin with."""
    mean: list[float]
    std: list[float]


def normalisation_beside(
    expected: Iterable[str], state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Beside | None]:
    """Return the weights without the mean and std of a layer in front of the network, and these.

    A network that has such names of its own keeps them; so does a file with several layers of that kind.
    """
    ends = {name.rpartition(".")[2] for name in expected}
    found = []
    for name, mean in state.items():
        start, _, end = name.rpartition(".")
        other = f"{start}.{_MEANS.get(end)}".removeprefix(".")
        if end in _MEANS and end not in ends and other in state:
            std = state[other]
            if (
                mean.numel() == std.numel() <= _CHANNELS
                and mean.is_floating_point()
                and std.is_floating_point()
            ):
                found.append((name, other, Beside(start, _numbers(mean), _numbers(std))))
    if len(found) != 1:
        return dict(state), None
    ((name, other, beside),) = found
    return {key: value for key, value in state.items() if key not in (name, other)}, beside


def follows_another(expected: Iterable[str], state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are those of a later part of a ``Sequential``, whose first part has none."""
    expected = set(expected)
    return bool(state) and all(re.match(r"[1-9]\d*\.", name) and name not in expected for name in state)


def _numbers(tensor: Tensor) -> list[float]:
    """Return the shortest decimals that are these numbers in float32: those that were written down."""
    return [float(str(number)) for number in tensor.flatten().float().numpy()]


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without the prefixes of wrappers that all of them have."""
    prefix = _common_prefix(state)
    return {name.removeprefix(prefix): value for name, value in state.items()}


def named_for(expected: Iterable[str], state: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """Return the weights by the names of a network that expects some.

    The network may itself keep everything under ``model.``, the file under a prefix beside others, such as a
    ``criterion.weight`` or the normalisation in front: what is left out of it then is told.
    """
    expected = dict.fromkeys(expected)
    state = {
        name: value
        for name, value in state.items()
        if name in expected or name.rpartition(".")[2] not in _BOOKKEEPING
    }
    own = _common_prefix(expected)
    named = {own + name: value for name, value in without_prefixes(state).items()}
    needed = [name.removeprefix(own) for name in required(expected)]
    if not needed or all(own + name in named for name in needed):
        return named
    prefixes = [name.removesuffix(needed[0]) for name in state if name.endswith(f".{needed[0]}")]
    fitting = [prefix for prefix in prefixes if all(prefix + name in state for name in needed)]
    if not fitting:
        return named
    prefix, *others = fitting
    if beside := [name for name in state if not name.startswith(prefix)]:
        log.warning(
            "%s: took the weights under %r%s and left out %s; a normalisation among them is given by --mean and --std",
            source,
            prefix,
            f" (not under {some(list(map(repr, others)))})" if others else "",
            some(beside),
        )
    return {own + name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}


def required(expected: Iterable[str]) -> list[str]:
    """Return the names that may not be missing: old files lack the counters of batches."""
    return [name for name in expected if not name.endswith("num_batches_tracked")]


def _common_prefix(names: Iterable[str], prefixes: Iterable[str] = _PREFIXES) -> str:
    """Return the wrappers' prefixes that every name starts with, such as ``module._orig_mod.``."""
    names, found = list(names), ""
    while names and (step := next((p for p in prefixes if all(n.startswith(found + p) for n in names)), "")):
        found += step
    return found
