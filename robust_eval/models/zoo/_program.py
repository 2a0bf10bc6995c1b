"""A network that is a program out of a file: its mode is that of an evaluation, and its batches may have one size."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_eval.identity import existing, file_sha256
from robust_eval.models.zoo._entry import Brought, Wanted, refuse_arguments
from robust_eval.paths import expanded
from robust_eval.types import Images, Logits

__all__ = ["InBatchesOf", "file_of", "program"]

log = logging.getLogger(__name__)


class InBatchesOf(nn.Module):
    """A program that takes exactly ``size`` images at a time; the last batch is filled up with its last image."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, x: Images) -> Logits:
        """Return what the program answers, for as many images as there are."""
        found: list[Tensor] = []
        for part in torch.split(x, self.size):
            missing = self.size - len(part)
            filled = part if not missing else torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
            found.append(self.network(filled)[: len(part)])
        return torch.cat(found)


def file_of(wanted: Wanted) -> Path:
    """Return the file that stands behind a prefix; raises ``RobustEvalError`` for none, or for weights beside it."""
    refuse_arguments(wanted)
    return existing(expanded(wanted.name))


def program(wanted: Wanted, network: nn.Module, path: Path, *, batch: int | None = None) -> Brought:
    """Return a network that a file's program is, and say that it is run."""
    log.warning("%s: runs the program in this file; run only what you trust", wanted.spec)
    if batch is not None:
        log.warning("%s: was made for batches of %s; the last one is filled up", wanted.spec, batch)
        network = InBatchesOf(network, batch)
    sha256 = file_sha256(path)
    return Brought(network, {wanted.prefix: sha256}, weights_sha256=sha256)
