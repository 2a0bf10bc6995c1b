"""Hands the steps of a stage their batches, as its curriculum chooses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from jaxtyping import Int
from torch import Tensor

from robust_eval.data import Examples
from robust_eval.errors import DataError
from robust_eval.methods import Choice, Curriculum, Order, Task
from robust_eval.rng import Rng
from robust_eval.surroundings import surroundings_kept
from trainers.batches import Batch, batch_of, loaded
from trainers.expected import expect_choice
from trainers.processes import part_of
from trainers.state import State
from trainers.steps import Steps
from trainers.trial import Trial

__all__ = ["Feed", "task_of"]


class Feed:
    """The batches of a stage, from where its state is; what is chosen is counted there."""

    def __init__(
        self,
        curriculum: Curriculum,
        task: Task,
        steps: Steps,
        training: Examples,
        state: State,
        *,
        held_out: Examples | None = None,
        test: Examples | None = None,
    ) -> None:
        with surroundings_kept():
            self._order = curriculum.start(task)
        if not isinstance(self._order, Order):
            raise DataError(
                f"{type(curriculum).__qualname__}.start: expected an Order, got {type(self._order).__name__}"
            )
        self._curriculum, self._task = curriculum, task
        self._steps, self._training, self._state = steps, training, state
        if state.order:
            (self._order.restore if state.step else self._order.follow)(state.order)
        # images in files are then decoded before their turn
        self._ahead = None if curriculum.asks else loaded(training, self._rows(state.step))
        self._choices = deque[Choice]()
        self._held_out, self._test = held_out, test

    def next(self, step: int) -> Batch:
        """Return this process's part of what the step trains on."""
        if self._ahead is not None:
            batch = next(self._ahead)
            choice = self._choices.popleft()
        else:
            trial = Trial(self._steps, self._training, step, held_out=self._held_out, test=self._test)
            choice = self._chosen(trial)
            batch = batch_of(self._training, part_of(choice.rows, self._steps.fabric))
            batch = batch._replace(tried=trial.step_on(choice))
            self._state.asked += trial.evaluations
        if choice.weights is not None:
            weights = choice.weights / choice.weights.mean()
            choice = choice._replace(weights=weights)
            batch = batch._replace(weights=part_of(weights, self._steps.fabric).to(batch.x))
        self._state.usage.see(choice)
        return self._steps.augmented(batch, step)

    def remember(self) -> None:
        """Put what the order remembers into the state."""
        self._state.order = self._order.state()

    def _chosen(self, trial: Trial) -> Choice:
        with surroundings_kept():
            choice: object = self._order.next(trial)
        return expect_choice(self._curriculum, choice, self._task)

    def _rows(self, first: int) -> Iterator[Int[Tensor, " n"]]:
        for step in range(first, self._steps.schedule.steps):
            choice = self._chosen(Trial(self._steps, self._training, step))
            self._choices.append(choice)
            yield part_of(choice.rows, self._steps.fabric)


def task_of(
    training: Examples,
    held_out: Examples | None,
    batch_size: int,
    *,
    rng: Rng,
    cost: int,
    test: Examples | None = None,
) -> Task:
    """Return what a curriculum chooses from; ``cost`` is that of a step, in network evaluations."""
    held, tested = (0 if images is None else len(images) for images in (held_out, test))
    return Task(training.labels.cpu(), training.classes, batch_size, held, rng, tested, cost / batch_size)
