"""What a curriculum may ask of the network before it chooses, so that no answer leaves a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from robust_eval.data import Examples
from robust_eval.methods import FORWARD, Outputs
from robust_eval.rng import rewound
from trainers.batches import Batch, batch_of
from trainers.outputs import outputs_of
from trainers.processes import gathered, part_of
from trainers.steps import Steps

__all__ = ["Trial"]


class Trial:
    """The network before one step. ``evaluations`` counts what the answers cost.

    Among several processes each answers for its part, and all get the same answer.
    """

    def __init__(self, steps: Steps, training: Examples, step: int) -> None:
        self.step = step
        self.evaluations = 0.0
        self._steps, self._training = steps, training

    @property
    def progress(self) -> float:
        """How much of the training is done, in [0, 1]."""
        return self._steps.schedule.progress(self.step)

    def losses(self, batches: Int[Tensor, "k b"]) -> Float[Tensor, "k b"]:
        """Return the cross-entropy of each image of some batches, each passed as a batch in train mode."""
        with _untouched(self._steps.network), torch.no_grad():
            found = torch.stack([self._losses(rows) for rows in batches])
        self.evaluations += FORWARD * batches.numel()
        return found.cpu()

    def outputs(self) -> Outputs:
        """Return logits and features of all training images, in eval mode and not augmented, on the CPU."""
        self.evaluations += FORWARD * len(self._training)
        return outputs_of(self._steps.network, self._training, self._steps.fabric)

    def _losses(self, rows: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        batch = self._steps.augmented(self._batch(rows), self.step)
        # each batch as if it alone came next: dropout draws the same
        with rewound():
            losses = self._steps.cross_entropy(batch)
        return gathered(losses, self._steps.fabric)

    def _batch(self, rows: Int[Tensor, " b"]) -> Batch:
        return batch_of(self._training, part_of(rows, self._steps.fabric))


@contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    """Put buffers, such as the statistics of BatchNorm, back afterwards."""
    before = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)
