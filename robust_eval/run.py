"""Run the cells that have no record yet, and write a record for each."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from robust_eval.accelerate import Precision
from robust_eval.analyse import analyse
from robust_eval.cell import Cell, ModelSource, content_key
from robust_eval.data import Examples
from robust_eval.errors import RobustEvalError
from robust_eval.evaluate import evaluate, rescored
from robust_eval.examine import examine
from robust_eval.memorisation import memorisation
from robust_eval.model_source import OwnModel, RecipeModel
from robust_eval.models.checkpoint import file_sha256, load_into, read_card, read_state, save
from robust_eval.normalized import Normalized
from robust_eval.recipe import NO_JOURNAL, Journal, Recipe, Train, Trained
from robust_eval.record import Record
from robust_eval.store import Store
from robust_eval.workbench import Loaded, Workbench

__all__ = ["Failure", "Outcome", "Progress", "run", "trained_model"]


_MEASURE = {"examination": examine, "analysis": analyse}
"""Families of cells that are not a perturbation of images."""


@dataclass(frozen=True)
class Failure:
    """A cell that could not be measured."""

    cell: Cell
    error: str
    """The last line of the traceback; the whole of it is in the run folder's ``failed/``."""


@dataclass
class Outcome:
    """What a run did."""

    found: int = 0
    """Cells that had a record already."""
    done: list[Record] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


@runtime_checkable
class Progress(Protocol):
    """Who is told how a run goes."""

    def start(self, total: int, found: int) -> None:
        """Tell how many cells there are and how many have a record."""

    def training(self, name: str, fraction: float, text: str) -> None:
        """Tell how far the training of a model is."""

    def begin(self, cell: Cell) -> None:
        """Tell which cell is measured now."""

    def finish(self, cell: Cell, record: Record) -> None:
        """Tell that a cell is done."""

    def fail(self, failure: Failure) -> None:
        """Tell that a cell failed; the run goes on."""


def run(
    cells: Sequence[Cell],
    store: Store,
    *,
    train: Train,
    progress: Progress,
    device: str = "cpu",
    batch_size: int | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
) -> Outcome:
    """Measure the cells without a record; a failing cell is noted and does not stop the others."""
    outcome = Outcome()
    missing = []
    for cell in cells:
        if store.has(cell.key):
            outcome.found += 1
            _refresh(store, cell)
        else:
            missing.append(cell)
    progress.start(len(cells), outcome.found)

    broken: dict[str, Exception] = {}

    def load(source: ModelSource) -> Loaded:
        def report(fraction: float, text: str) -> None:
            progress.training(source.name, fraction, text)

        key = content_key(source.identity)
        if key in broken:  # a training that failed would fail again, once for each cell of the model
            raise broken[key]
        try:
            return _load(source, store, train, device, report)
        except Exception as error:
            broken[key] = error
            raise

    bench = Workbench(load, device=device, batch_size=batch_size, precision=precision, compiled=compiled)
    for cell in missing:
        if store.has(cell.key):  # by another process on the same folder, in the meantime
            outcome.found += 1
            progress.finish(cell, _refresh(store, cell))
            continue
        progress.begin(cell)
        try:
            record = _MEASURE.get(cell.family, evaluate)(cell, bench)
        except Exception as error:
            store.fail(cell.key, cell.labels, traceback.format_exc())
            line = str(error).splitlines()[0] if str(error) else ""
            outcome.failed.append(
                Failure(
                    cell, line if isinstance(error, RobustEvalError) else f"{type(error).__name__}: {line}"
                )
            )
            progress.fail(outcome.failed[-1])
            continue
        store.write(record)
        outcome.done.append(record)
        progress.finish(cell, record)
    return outcome


def trained_model(
    source: RecipeModel,
    store: Store,
    *,
    train: Train,
    device: str,
    report: Callable[[float, str], None],
    journal: Journal = NO_JOURNAL,
) -> Path:
    """Return the weights file of a recipe, training it first if there is none.

    A training that was killed goes on from its last pass. Its log stays in the run's ``training`` folder.
    """
    path = store.checkpoint(source.key)
    if not _is_saved(path):
        journal = journal._replace(folder=store.training(source.key))
        trained = train(source.recipe, source.examples, device=device, report=report, journal=journal)
        if not _is_saved(path):  # another process may have been faster, and its weights are in use already
            save(trained.network, path, _card(source, trained))
        (store.training(source.key) / "state.pt").unlink(missing_ok=True)
    return path


def _is_saved(path: Path) -> bool:
    return path.exists() and path.with_suffix(".json").exists()


def _load(
    source: ModelSource, store: Store, train: Train, device: str, report: Callable[[float, str], None]
) -> Loaded:
    if isinstance(source, OwnModel):
        return Loaded(source.network, source.weights_sha256)
    assert isinstance(source, RecipeModel)
    path = trained_model(source, store, train=train, device=device, report=report)
    network = source.untrained()
    card = read_card(path) or {}  # raises when the weights are not those the card was written for
    load_into(network, read_state(path), source=str(path))
    if source.recipe.mean is not None and source.recipe.std is not None:
        network = Normalized(network, source.recipe.mean, source.recipe.std)
    training: dict[str, object] = {
        name: card[name] for name in ("wrong_labels", "memorisation") if name in card
    }
    return Loaded(network, file_sha256(path), training or None)


def _card(source: RecipeModel, trained: Trained) -> dict[str, object]:
    recipe: Recipe = source.recipe
    return {
        "key": source.key,
        "recipe": recipe.spec(),
        "data": {"source": source.examples.source, "fingerprint": source.examples.fingerprint},
        "channels": source.examples.shape[0],
        "classes": source.examples.classes,
        "evaluations": trained.evaluations,
        **_noise(source.examples, trained),
        "history": json.loads(json.dumps(trained.history)),
    }


def _noise(examples: Examples, trained: Trained) -> dict[str, object]:
    """Return which part of the training labels is wrong and how much of each was learnt; nothing without noise."""
    if examples.corrupted is None:
        return {}
    wrong = float(examples.corrupted.double().mean())
    return {"wrong_labels": wrong, "memorisation": memorisation(trained.history)}


def _refresh(store: Store, cell: Cell) -> Record:
    """Return a finished record with the names and radii asked for now; both cost nothing."""
    record = store.read(cell.key)
    radii = {m.eps for m in record.summary}
    if record.labels != json.loads(json.dumps(cell.labels)) or not set(cell.score_at) <= radii:
        record = rescored(record, cell)
        store.write(record)
    return record
