"""Take the images in random order, each once a pass: what training is without a curriculum.

Each pass over the training images is a new permutation of them, cut into batches; what is left at its end, less than a
batch, is dropped. All images count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from robust_eval.methods import Choice, Curriculum, Order, Task, Trial
from robust_eval.registry import register
from trainers.curricula._passes import batches_of

__all__ = ["Shuffled"]


@register("curriculum", "shuffled")
@dataclass(frozen=True, kw_only=True)
class Shuffled(Curriculum):
    """Shuffled passes."""

    asks = False

    def start(self, task: Task) -> Order:
        """Return the order of a stage."""
        return _Passes(task)


class _Passes(Order):
    def __init__(self, task: Task) -> None:
        self.task = task
        self.number, self.batches = 0, batches_of(task, 0)

    def next(self, trial: Trial) -> Choice:
        number, place = divmod(trial.step, len(self.batches))
        if number != self.number:
            self.number, self.batches = number, batches_of(self.task, number)
        return Choice(self.batches[place])
