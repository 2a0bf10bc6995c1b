"""What a worker takes next, of cells that others on the same folder take from too.

A cell is taken by a lease, and so is the training of a model; the cells of a model wait for its training, and others go
on. A worker stays with a model as long as it has cells, since much of what they need is made once for all of them; then
it takes the model that fewest work on, and begins where none of them did. Where there are others, models are trained
first: at the end nobody has to wait for the last of them.

What ended its worker is tried once more, with less memory where that may have been the reason (:mod:`.leases`); what
has ended two is refused, but for a training that finished a pass in between. What has failed since the run was planned
is not tried again, by whomever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from robust_eval.identity import content_key
from robust_eval.models.source import RecipeModel
from robust_eval.results.cell import Cell
from robust_eval.results.planned import planned_at
from robust_eval.results.store import Store
from robust_eval.run.leases import Claim, Leases
from robust_eval.run.training import TRAINING, is_trained

__all__ = ["TRIES", "Queue", "Taken", "Training"]

TRIES = 2
"""Workers that may end in working on something before it is given up."""
PAUSE = (0.05, 2.0)
"""Seconds between two looks at what others work on: at first, and at most."""


class Taken(NamedTuple):
    """A cell to measure; its lease is held until the next one is asked for."""

    cell: Cell
    less_memory: bool = False
    """Whether fewer images at a time should be tried."""
    refused: str | None = None
    """Why it is not to be measured."""
    failed: bool = False
    """Whether another has tried it, and it failed."""


class Training(NamedTuple):
    """A model to train."""

    source: RecipeModel


class Queue:
    """Gives out the cells of a run, as long as one has neither a record nor failed."""

    def __init__(
        self,
        cells: Sequence[Cell],
        store: Store,
        leases: Leases,
        *,
        is_done: Callable[[Cell], bool],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._leases, self._is_done, self._sleep = store, leases, is_done, sleep
        self._left: dict[str, dict[str, Cell]] = {}
        """Cells by key, by the key of their model."""
        for cell in cells:
            self._left.setdefault(_model_key(cell), {})[cell.key] = cell
        self._begun = planned_at(store.folder)

    def __iter__(self) -> Iterator[Taken | Training]:
        pause = PAUSE[0]
        while self._left:
            took = False
            for model in self._in_turn():
                for taken in self._of_model(model):
                    took = True
                    yield taken
                if took:  # the others may have moved
                    break
            if took:
                pause = PAUSE[0]
            elif self._left:
                self._sleep(pause)
                pause = min(2 * pause, PAUSE[1])

    def _in_turn(self) -> list[str]:
        """Return the models with cells left, the one to go on with first."""
        at_work = [lease.what.get("model") for lease in self._leases.found()]
        if not at_work:
            return list(self._left)

        def rank(model: str) -> tuple[bool, int]:
            return self._untrained(model) is None, at_work.count(model)

        return sorted(self._left, key=rank)

    def _of_model(self, model: str) -> Iterator[Taken | Training]:
        """Yield what can be taken of a model: its training, then its cells; nothing while another trains it."""
        source = self._untrained(model)
        if source is None:
            yield from self._cells(model)
            return
        name = source.key + TRAINING
        what = {"model": model, "name": source.name, "cell": None}
        claim = self._leases.claim(name, what)
        if claim is None:
            return
        try:
            if len(claim.ended.reasons) >= TRIES and not self._advanced(source, claim.ended.since):
                # noted while the lease is held, so that nobody trains it in the meantime
                yield from self._cells(model, refused=f"training it {_refusal(claim)}")
                return
            if self._untrained(model) is not None:
                yield Training(source)
            if self._untrained(model) is not None:  # it failed, and so will every cell
                yield from self._cells(model)
                return
        finally:
            self._leases.release(name, done=self._untrained(model) is None)
        if not self._leases.names():  # where there are others, the next model is trained first
            yield from self._cells(model)

    def _cells(self, model: str, *, refused: str | None = None) -> Iterator[Taken]:
        cells = self._left[model]
        for key in self._from_where_nobody_is(model):
            cell = cells[key]
            if self._is_done(cell):
                self._settle(model, key)
                yield Taken(cell)
                continue
            if self._has_failed(key):
                self._settle(model, key)
                yield Taken(cell, failed=True)
                continue
            claim = self._leases.claim(key, {"model": model, "name": cell.model.name, "cell": str(cell)})
            if claim is None:
                continue
            self._settle(model, key)
            try:
                if len(claim.ended.reasons) >= TRIES:
                    yield Taken(cell, refused=_refusal(claim))
                else:
                    yield Taken(cell, claim.ended.less_memory, refused)
            except GeneratorExit:
                self._leases.release(key, done=False)
                raise
            self._leases.release(key)

    def _from_where_nobody_is(self, model: str) -> list[str]:
        """Return the keys of a model's cells, beginning in the middle of a stretch that the others leave."""
        keys = list(self._left[model])
        leases = self._leases.found()
        others = sum(lease.what.get("model") == model and bool(lease.what.get("cell")) for lease in leases)
        start = int(_spread(others) * len(keys))
        return keys[start:] + keys[:start]

    def _untrained(self, model: str) -> RecipeModel | None:
        """Return a model that has to be trained first."""
        source = next(iter(self._left[model].values())).model if model in self._left else None
        return source if isinstance(source, RecipeModel) and not is_trained(source, self._store) else None

    def _advanced(self, source: RecipeModel, since: float) -> bool:
        """Whether a training has finished a pass since then: it goes on from there."""
        try:
            return (self._store.training(source.key) / "state.pt").stat().st_mtime > since
        except OSError:
            return False

    def _has_failed(self, key: str) -> bool:
        return self._store.failed_at(key) > self._begun

    def _settle(self, model: str, key: str) -> None:
        self._left[model].pop(key)
        if not self._left[model]:
            del self._left[model]


def _model_key(cell: Cell) -> str:
    return content_key(cell.model.identity)


def _refusal(claim: Claim) -> str:
    told = "; ".join(dict.fromkeys(claim.ended.reasons))
    return f"ended the {len(claim.ended.reasons)} processes that worked on it ({told})"


def _spread(number: int) -> float:
    """Return 0, 1/2, 1/4, 3/4, 1/8, ...: each in the middle of a widest gap (van der Corput)."""
    found, share = 0.0, 0.5
    while number:
        found += share * (number & 1)
        number, share = number >> 1, share / 2
    return found
