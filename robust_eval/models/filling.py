"""Weights from a file go into a network, with what the file says of the images in front of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_eval.errors import THEIRS, CheckpointError
from robust_eval.models._content import some
from robust_eval.models._names import Beside, follows_another, named_for, normalisation_beside
from robust_eval.models.checkpoint import load_into

__all__ = ["fill", "named_like"]

log = logging.getLogger(__name__)

_NARROW = (torch.float16, torch.bfloat16)


def named_like(
    state: Mapping[str, Tensor], make: Callable[[], nn.Module], source: str | Path
) -> tuple[dict[str, Tensor], Beside | None]:
    """Return the weights by the names of the network that ``make`` gives, whatever its sizes, and the mean and std that
    lie beside them.
    """
    try:
        with torch.device("meta"):
            expected = make().state_dict()
    except THEIRS:  # what computes with its weights while it is made cannot do without
        expected = make().state_dict()
    state, beside = normalisation_beside(expected, state)
    if beside is None and follows_another(expected, state):
        log.warning(
            "%s: the weights follow a first layer that has none: where that is a normalisation, give --mean and --std",
            source,
        )
    return named_for(expected, state, source), beside


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> Beside | None:
    """Copy weights into a network, and return the mean and std that lie beside them.

    Raises ``CheckpointError``, one line, for weights that do not fit, or that hold NaN.
    """
    state, beside = named_like(state, lambda: network, source)
    if holed := [name for name, value in state.items() if value.is_floating_point() and value.isnan().any()]:
        raise CheckpointError(
            f"{source}: expected finite weights, got NaN in {len(holed)} of {len(state)} ({some(holed)}); the training "
            "has diverged, or the file is damaged: take an earlier checkpoint"
        )
    own = {weight.dtype for weight in network.parameters() if weight.is_floating_point()}
    kept = {value.dtype for value in state.values()} & set(_NARROW)
    if kept and not kept & own:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in kept))
        log.warning("%s: weights in %s, computed with in float32", source, names)
    load_into(network, state, source=source)
    return beside
