"""Names of weights, made those of the network they go into: wrappers put prefixes before them and others beside."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from robust_eval.models._content import some

__all__ = ["named_for", "required", "without_prefixes"]

# Put in front of every name by DataParallel, torch.compile and Lightning modules.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_BOOKKEEPING = ("n_averaged", "total_ops", "total_params")
"""Counters that averaged models and THOP keep among the weights: nothing of them reaches an output."""

log = logging.getLogger(__name__)


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
