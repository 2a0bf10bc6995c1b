"""``export:FILE``: a program that ``torch.export.save`` wrote (``.pt2``), with its weights."""

from __future__ import annotations

from typing import Any

import torch

from robust_eval.errors import THEIRS, CheckpointError
from robust_eval.models._content import one_line
from robust_eval.models.zoo._entry import Brought, Wanted, behind
from robust_eval.models.zoo._program import file_of, program


@behind("export", about="FILE (a program of torch.export.save, .pt2, which is run)", path=True, program=True)
def _bring(wanted: Wanted) -> Brought:
    path = file_of(wanted)
    try:
        exported = torch.export.load(str(path))
        network = exported.module()
    except THEIRS as error:
        raise CheckpointError(
            f"{wanted.spec}: expected a program of torch.export, got none that can be read ({one_line(error)})"
        ) from None
    # its train() and eval() only raise: the mode was fixed when it was exported
    for switch in ("train", "eval"):
        vars(network).pop(switch, None)
    return program(wanted, network, path, batch=_batch(exported))


def _batch(exported: Any) -> int | None:
    """Return the one number of images that the program takes at a time; ``None`` where it takes any."""
    inputs = set(exported.graph_signature.user_inputs)
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in inputs:
            first = next(iter(node.meta["val"].shape), None)
            return first if isinstance(first, int) else None
    return None
