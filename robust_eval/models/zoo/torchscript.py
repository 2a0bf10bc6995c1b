"""``torchscript:FILE``: a program that ``torch.jit.save`` wrote, with its weights."""

from __future__ import annotations

import warnings

import torch

from robust_eval.errors import CheckpointError
from robust_eval.models._content import one_line
from robust_eval.models.zoo._entry import Brought, Wanted, behind
from robust_eval.models.zoo._program import file_of, program


@behind("torchscript", about="FILE (a program of torch.jit.save, which is run)", path=True, program=True)
def _bring(wanted: Wanted) -> Brought:
    path = file_of(wanted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that it is an old format
            network = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise CheckpointError(
            f"{wanted.spec}: expected a TorchScript archive, got none that can be read ({one_line(error)}); "
            "weights alone are a checkpoint, with --arch for their network"
        ) from None
    return program(wanted, network, path)
