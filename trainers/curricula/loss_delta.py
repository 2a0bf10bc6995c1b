"""Train next on the batch whose step lowers the loss most, among K that are tried.

"Maximum Loss Delta": before each step, K batches are drawn from those of the pass that were not trained on yet. On each
of them one real step is taken, with the learning rate, momentum and weight decay of the coming one, and undone:

    next = argmax_k L(w; R) - L(w_k; R),    w_k = step(w; B_k)

Only the one that was trained on leaves the pass: each image is still seen once a pass. K = 1 is ``shuffled``, bit for
bit; ``k = "all"`` tries all batches that are left. ``reference`` says what R is. ``batch``: the batch itself, L being
the loss of the regularizer; ``relative`` divides by ``L(w; B_k)``. ``held_out``: up to 512 images that are not trained
on, drawn once a pass, L being their cross-entropy; the validation accuracy is then no longer that of images without a
say. ``test``: the same of test images, which is how the description has it and a leak; kept to repeat it.

Default: K = 8, the smallest that was tried (8 to 32). The description reports a higher and steadier test accuracy in
the first passes at an equal number of steps, of one seed, and ``relative`` a little below.

Choices where it is silent: candidates are augmented as they would be in the step, the loss after it has the same draws
as the one before, and both see the batch statistics of BatchNorm; reference images are not augmented and pass in
batches of about the size of a step's, in train mode. Equal scores: the first drawn. The step that wins is put back and
not taken a second time. A step costs K steps and K passes forward, fewer at the end of a pass; a reference costs its
own passes. Weights and the optimizer's memory are held three times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from robust_eval.errors import ConfigError
from robust_eval.fields import Whole
from robust_eval.methods import FORWARD, Choice, Curriculum, Order, Reference, Task, Trial, loss_alone
from robust_eval.registry import register
from trainers.curricula._passes import Left, mean_candidates, require_batches

__all__ = ["LossDelta"]

IMAGES = 512
"""Of a reference, where there are as many."""


@register("curriculum", "loss_delta")
@dataclass(frozen=True, kw_only=True)
class LossDelta(Curriculum):
    """The batch of K whose step lowers the loss most."""

    k: Annotated[Whole, Field(ge=1)] | Literal["all"] = 8
    """Batches that are tried."""
    reference: Literal["batch", "held_out", "test"] = "batch"
    """Which images' loss is to be lowered: those of the batch itself, held-out ones, or test images."""
    relative: bool = False
    """Whether the loss of the batch is divided by what it was before the step."""

    def __post_init__(self) -> None:
        if self.relative and self.reference != "batch":
            raise ValueError(
                f"expected reference='batch' with relative, got {self.reference!r}; leave one out"
            )

    @property
    def looks_at_held_out(self) -> bool:
        """Whether held-out images choose the batches."""
        return self.reference == "held_out"

    @property
    def looks_at_test(self) -> bool:
        """Whether test images choose the batches."""
        return self.reference == "test"

    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` for too many batches, or none to compare by."""
        require_batches("loss_delta", self._tried(task), task)
        if self.reference != "batch" and self._images(task) < 2:
            fix = "raise validation" if self.reference == "held_out" else "load a set with a test split"
            raise ConfigError(
                f"loss_delta: expected 2 {self.reference} images or more to compare steps by, got "
                f"{self._images(task)}; {fix}, or take reference = 'batch'"
            )
        return _Tried(self, task)

    def evaluations(self, task: Task) -> float:
        """Return the trial steps and the looks after them; the step that wins is none of the questions."""
        candidates, step = mean_candidates(self._tried(task), task.batches), task.batch_size * task.per_image
        # the last batch of a pass needs no trial
        asked = 0.0 if self.k == 1 else 1 - 1 / task.batches
        cost = (candidates - asked) * step
        if self.reference == "batch":
            return cost + candidates * task.batch_size * loss_alone(task.per_image)
        return cost + FORWARD * (candidates + asked) * self._images(task)

    def _tried(self, task: Task) -> int:
        return task.batches if self.k == "all" else self.k

    def _images(self, task: Task) -> int:
        return min(IMAGES, task.held_out if self.reference == "held_out" else task.test)


class _Tried(Order):
    def __init__(self, method: LossDelta, task: Task) -> None:
        self.method, self.task, self.left = method, task, Left(task)

    def next(self, trial: Trial) -> Choice:
        numbers, batches = self.left.draw(self.method._tried(self.task))
        best = 0
        if len(numbers) > 1:
            scores = trial.deltas(batches, self._reference(), relative=self.method.relative)
            best = int(scores.argmax())
        self.left.remove(int(numbers[best]))
        return Choice(batches[best])

    def _reference(self) -> Reference | None:
        method, task = self.method, self.task
        if method.reference == "batch":
            return None
        among = task.held_out if method.reference == "held_out" else task.test
        generator = task.rng.child("pass", self.left.number, "reference").torch_generator()
        return Reference(method.reference, torch.randperm(among, generator=generator)[:IMAGES])

    def state(self) -> dict[str, Any]:
        return self.left.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.left.restore(state)
