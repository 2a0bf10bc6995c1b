"""A training begins from given weights: from all of them, or from all but the head.

The head is the module of the weight that the architecture names (``Architecture.head``), one row for each class.
A normalisation or an activation in front of it is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import nn

from robust_eval.errors import CheckpointError
from robust_eval.methods import Architecture
from robust_eval.models._names import named_for, required
from robust_eval.models.checkpoint import load_into, read_state

__all__ = ["StartHead", "start_from"]

StartHead = Literal["load", "new"]
"""Whether the head is loaded with the rest, or stays as it was drawn."""


def start_from(network: nn.Module, path: Path, *, architecture: Architecture, head: StartHead) -> None:
    """Copy the weights of a file into a network that this architecture has built.

    Raises ``CheckpointError``, one line, for weights that do not fit; where it is the head, the line names the way out.
    """
    state, expected = read_state(path), network.state_dict()
    own = architecture.head.rpartition(".")[0] + "."
    body = {name: value for name, value in expected.items() if not name.startswith(own)}
    if head == "new":
        if architecture.head not in expected:
            raise CheckpointError(
                f"{path}: start_head='new': expected an architecture whose head has the weight {architecture.head}, "
                f"got {type(architecture).__name__} without; name its weight in the class variable head"
            )
        found = named_for(body, state, path)
        kept = {name: value for name, value in found.items() if not name.startswith(own)}
        state = kept | {name: value for name, value in expected.items() if name.startswith(own)}
    elif architecture.head in expected:
        given = named_for(expected, state, path)
        weight, classes = given.get(architecture.head), len(expected[architecture.head])
        misses = weight is None or len(weight) != classes
        if misses and all(name in given and given[name].shape == body[name].shape for name in required(body)):
            got = "no head" if weight is None else f"one of {len(weight)}"
            raise CheckpointError(
                f"{path}: expected a head of {classes} classes, got {got}; start_head='new' loads all the rest "
                "and draws the head"
            )
    load_into(network, state, source=path)
