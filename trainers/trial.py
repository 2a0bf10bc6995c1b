"""What a curriculum may ask of the network before it chooses, so that no answer leaves a trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from robust_eval.data import Examples
from robust_eval.errors import ConfigError
from robust_eval.methods import FORWARD, Choice, Outputs, Reference, loss_alone
from robust_eval.rng import rewound
from trainers.batches import Batch, batch_of
from trainers.others import other_network
from trainers.outputs import outputs_of
from trainers.processes import gathered, mean_of, part_of
from trainers.standing import Tried, copied, put, standing
from trainers.steps import Steps

__all__ = ["Trial"]


class Trial:
    """The network before one step. ``evaluations`` counts what the answers cost.

    Among several processes each answers for its part, and all get the same answer.
    """

    def __init__(
        self,
        steps: Steps,
        training: Examples,
        step: int,
        *,
        held_out: Examples | None = None,
        test: Examples | None = None,
    ) -> None:
        self.step = step
        self.evaluations = 0.0
        self._steps, self._training = steps, training
        self._others = {"held_out": held_out, "test": test}
        self._best: Tried | None = None

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

    def deltas(
        self, batches: Int[Tensor, "k b"], reference: Reference | None = None, *, relative: bool = False
    ) -> Float[Tensor, " k"]:
        """Return by how much a step on each of the batches would lower a loss; the best step is remembered.

        It is the loss of the step itself, ``relative`` to what it was or not, or the mean cross-entropy of a reference.
        """
        steps = self._steps
        start, best, scores = standing(steps.objective, steps.optimizer), -math.inf, []
        images = None if reference is None else self._images(reference, batches.shape[1])
        try:
            first = None if images is None else self._cross_entropy(images)
            for rows in batches:
                batch = steps.augmented(self._batch(rows), self.step)
                put(copied(start), steps.objective, steps.optimizer)
                loss = steps.loss(batch, self.step)
                steps.take(loss)
                after = standing(steps.objective, steps.optimizer)
                # the same draws as before the step
                put(after._replace(random=start.random), steps.objective, steps.optimizer)
                before = mean_of(loss.detach(), steps.fabric) if first is None else first
                delta = before - (self._loss(batch) if images is None else self._cross_entropy(images))
                scores.append((delta / before if relative and before else delta).double().cpu())
                if scores[-1] > best:
                    best, self._best = scores[-1].item(), Tried(rows, loss.detach(), after)
        finally:
            put(start, steps.objective, steps.optimizer)
        self.evaluations += len(batches) * steps.cost
        if reference is None:
            self.evaluations += batches.numel() * loss_alone(steps.cost / batches.shape[1])
        else:
            self.evaluations += FORWARD * (len(batches) + 1) * len(reference.rows)
        return torch.stack(scores)

    def step_on(self, choice: Choice) -> Tried | None:
        """Return the step on what was chosen, if it was tried; it is then no longer counted with the questions."""
        best = self._best
        if best is None or choice.weights is not None or not torch.equal(best.rows, choice.rows):
            return None
        self.evaluations -= self._steps.cost
        return best

    def outputs(self) -> Outputs:
        """Return logits and features of all training images, in eval mode and not augmented, on the CPU."""
        self.evaluations += FORWARD * len(self._training)
        return outputs_of(self._steps.network, self._training, self._steps.fabric)

    def losses_under(self, weights: Path) -> Float[Tensor, " n"]:
        """Return the cross-entropy of all training images, on the CPU, under the weights in a file."""
        other = other_network(self._steps.recipe, self._training, weights)
        self.evaluations += FORWARD * len(self._training)
        logits = outputs_of(other, self._training, self._steps.fabric).logits
        return functional.cross_entropy(logits, self._training.labels.cpu(), reduction="none")

    def _loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Return what the loss of the step is for a batch, over all processes."""
        with _untouched(self._steps.network), torch.no_grad(), rewound():
            loss = self._steps.loss(batch, self.step)
        return mean_of(loss, self._steps.fabric)

    def _cross_entropy(self, parts: list[Batch]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of images, over all processes."""
        with _untouched(self._steps.network), torch.no_grad(), rewound():
            losses = torch.cat([self._steps.cross_entropy(part) for part in parts])
        return mean_of(losses.mean(), self._steps.fabric)

    def _images(self, reference: Reference, batch_size: int) -> list[Batch]:
        """Return this process's part of the images of a reference, in batches of about the size of a step's.

        What cannot be shared out evenly is left out.
        """
        others, fabric = self._others[reference.images], self._steps.fabric
        count = len(reference.rows) // fabric.world_size * fabric.world_size
        if others is None or count < 2 * fabric.world_size:
            raise ConfigError(
                f"curriculum: expected {2 * fabric.world_size} {reference.images} images or more to compare steps by, "
                f"got {0 if others is None else len(reference.rows)}"
            )
        mine = part_of(reference.rows[:count], fabric)
        return [batch_of(others, rows) for rows in mine.tensor_split(max(1, count // batch_size))]

    def _losses(self, rows: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        # processes have equal parts: the last is filled up
        spare = -len(rows) % self._steps.fabric.world_size
        batch = self._steps.augmented(self._batch(torch.cat([rows, rows[:spare]])), self.step)
        # each batch as if it alone came next: dropout draws the same
        with rewound():
            losses = self._steps.cross_entropy(batch)
        return gathered(losses, self._steps.fabric)[: len(rows)]

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
