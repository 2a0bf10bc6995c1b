"""Train next on the batch whose loss is smallest among K.

"Sample Loss Orderer", also called multi attempt: before each step, K batches are drawn from those of the pass that were
not trained on yet, and

    next = argmin_k 1/b sum_(i in B_k) CE(f(x_i), y_i)

under the present weights; ``descending`` takes the largest. Only the one that was trained on leaves the pass: each
image is still seen once a pass. K = 1 is ``shuffled``, bit for bit.

Default: K = 8, the smallest that was tried (8 to 64). The description reports a higher training accuracy in the first
passes, a steadier test accuracy and no higher one; ``descending`` never learns there.

Choices where it is silent: losses are those of the images as they would be trained on, augmented alike, with the batch
statistics of BatchNorm (running ones mean little in the first steps); passes are shuffled anew each time; the
cross-entropy scores whatever the regularizer then does. A step costs K forward passes more, fewer at the end of a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from robust_eval.fields import Whole
from robust_eval.methods import FORWARD, Choice, Curriculum, Order, Task, Trial
from robust_eval.registry import register
from trainers.curricula._passes import Left, mean_candidates, require_batches

__all__ = ["LossOrder"]


@register("curriculum", "loss_order")
@dataclass(frozen=True, kw_only=True)
class LossOrder(Curriculum):
    """The best of K batches by loss."""

    k: Annotated[Whole, Field(ge=1)] = 8
    """Batches of which one is trained on."""
    order: Literal["ascending", "descending"] = "ascending"
    """Whether the one of smallest or of largest loss."""

    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` for more batches than a pass has."""
        require_batches("loss_order", self.k, task)
        return _Ordered(self, task)

    def evaluations(self, task: Task) -> float:
        """Return the forward passes over the candidates of a step."""
        return FORWARD * task.batch_size * mean_candidates(self.k, task.batches)


class _Ordered(Order):
    def __init__(self, method: LossOrder, task: Task) -> None:
        self.method, self.left = method, Left(task)

    def next(self, trial: Trial) -> Choice:
        numbers, batches = self.left.draw(self.method.k)
        best = 0
        if len(numbers) > 1:
            losses = trial.losses(batches).mean(1)
            best = int(losses.argmin() if self.method.order == "ascending" else losses.argmax())
        self.left.remove(int(numbers[best]))
        return Choice(batches[best])

    def state(self) -> dict[str, Any]:
        return self.left.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.left.restore(state)
