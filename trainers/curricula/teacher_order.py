"""Train next on the batch of K that a teacher finds easy and whose step lowers the loss most.

"Teacher and student", one sentence of a list of ideas: the loss of a teacher, combined with Maximum Loss Delta. Before
each step, K batches are drawn from those of the pass that were not trained on yet, and

    next = argmin_k  share rank_k(T) + (1 - share) rank_k(-D),    T = mean loss of batch k under the teacher,
                                                                  D = by how much a step on it lowers its own loss

with ranks from 0 to K - 1 and ``D`` as in ``loss_delta``. Only the one that was trained on leaves the pass: each image
is still seen once a pass. The teacher is a file of weights of the recipe's own architecture, for the same classes; a
record knows it by its content.

Ours, where the sentence is silent: ranks, since the two losses have no common scale, and equal parts of both; easy
first; K = 8, as in ``loss_delta``. With ``share = 1`` the teacher alone decides, and no step is tried. Equal scores:
the first drawn. The teacher's losses are of the images not augmented, in eval mode, by the given labels, normalised as
the recipe says; that pass is taken once a stage and counted in what was spent, on top of the budget's steps. A step
costs K steps and K passes forward, fewer at the end of a pass, and is counted so beforehand; where both ranks agree on
the best one, its step is put back and not taken a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from robust_eval.errors import RobustEvalError
from robust_eval.fields import Real, Whole
from robust_eval.identity import file_sha256
from robust_eval.methods import Choice, Curriculum, Order, Task, Trial, loss_alone
from robust_eval.paths import is_file, shown, what_is
from robust_eval.registry import register
from trainers.curricula._passes import Left, mean_candidates, require_batches

__all__ = ["TeacherOrder"]


@register("curriculum", "teacher_order")
@dataclass(frozen=True, kw_only=True)
class TeacherOrder(Curriculum):
    """The best of K batches by a teacher's loss and by what a step on it brings."""

    teacher: Path = field(metadata={"identity": False})
    """File of weights, of the recipe's architecture. In an experiment file, relative to it."""
    teacher_sha256: str | None = None
    """Of that file, found when the curriculum is made. It stands for it in a record's key."""
    k: Annotated[Whole, Field(ge=1)] = 8
    """Batches of which one is trained on."""
    share: Annotated[Real, Field(gt=0, le=1)] = 0.5
    """Part of the teacher's rank in the score, above 0."""

    def __post_init__(self) -> None:
        if not is_file(self.teacher):
            there = what_is(self.teacher)
            raise ValueError(
                f"expected a weights file as teacher, got {shown(self.teacher)!r}, where there is {there}"
            )
        try:
            found = file_sha256(self.teacher)
        except RobustEvalError as error:
            raise ValueError(f"expected a weights file as teacher, got {error}") from None
        if self.teacher_sha256 not in (None, found):
            raise ValueError(
                f"expected the teacher that was used then, got other weights in {shown(self.teacher)}"
            )
        object.__setattr__(self, "teacher_sha256", found)

    def start(self, task: Task) -> Order:
        """Return the order of a stage; raises ``ConfigError`` for more batches than a pass has."""
        require_batches("teacher_order", self.k, task)
        return _Taught(self, task)

    def evaluations(self, task: Task) -> float:
        """Return the trial steps and the looks after them, without the teacher's one pass."""
        if self.share == 1:
            return 0.0
        each = task.per_image + loss_alone(task.per_image)
        return mean_candidates(self.k, task.batches) * task.batch_size * each


class _Taught(Order):
    def __init__(self, method: TeacherOrder, task: Task) -> None:
        self.method, self.left = method, Left(task)
        self.losses: Float[Tensor, " n"] | None = None

    def next(self, trial: Trial) -> Choice:
        numbers, batches = self.left.draw(self.method.k)
        best = 0
        if len(numbers) > 1:
            if self.losses is None:
                self.losses = trial.losses_under(self.method.teacher)
            score = self.method.share * _ranks(self.losses[batches].mean(1))
            if self.method.share < 1:
                score = score + (1 - self.method.share) * _ranks(-trial.deltas(batches))
            best = int(score.argmin())
        self.left.remove(int(numbers[best]))
        return Choice(batches[best])

    def state(self) -> dict[str, Any]:
        return {**self.left.state(), "losses": self.losses}

    def restore(self, state: dict[str, Any]) -> None:
        self.left.restore(state)
        self.losses = state["losses"]

    def follow(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"]


def _ranks(values: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return the place of each in ascending order, from 0; equals in the order they are in."""
    places: Int[Tensor, " k"] = values.argsort(stable=True).argsort()
    return places.double()
