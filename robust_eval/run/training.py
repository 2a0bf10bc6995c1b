"""The trained weights of a recipe: found, or made and kept."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

from robust_eval.data import Examples
from robust_eval.methods import Curriculum
from robust_eval.metrics.memorisation import memorisation
from robust_eval.models.checkpoint import save
from robust_eval.models.recipe import NO_JOURNAL, Journal, Recipe, Train, Trained
from robust_eval.models.source import RecipeModel
from robust_eval.registry import describe
from robust_eval.results.store import Store
from robust_eval.run.leases import Leases

__all__ = ["TRAINING", "is_trained", "trained_model"]

TRAINING = "-training"
"""What the lease of a training has behind the key of its recipe."""
PAUSE = 0.5
"""Seconds between two looks at whether another has finished training."""


def trained_model(
    source: RecipeModel,
    store: Store,
    *,
    train: Train,
    device: str,
    report: Callable[[float, str], None],
    journal: Journal = NO_JOURNAL,
    leased: bool = False,
) -> Path:
    """Return the weights file of a recipe, training it first if there is none.

    A training that was killed goes on from its last pass. Its log stays in the run's ``training`` folder. ``leased``
    says that the caller holds its lease.
    """
    path = store.checkpoint(source.key)
    if _is_saved(path):
        return path
    # one process trains it, others wait for its weights; those of torchrun train it together
    with nullcontext() if leased or "RANK" in os.environ else _alone(source, store):
        _train(source, store, path, train, device, report, journal)
    return path


def is_trained(source: RecipeModel, store: Store) -> bool:
    """Whether the weights of a recipe lie in the run folder."""
    return _is_saved(store.checkpoint(source.key))


@contextmanager
def _alone(source: RecipeModel, store: Store) -> Iterator[None]:
    """Hold the lease of a training, or wait until another that holds it has finished."""
    store.folder.mkdir(parents=True, exist_ok=True)
    leases, name = Leases(store.folder), source.key + TRAINING
    with leases.touching():
        while leases.claim(name, {"model": source.key, "name": source.name, "cell": None}) is None:
            time.sleep(PAUSE)
        try:
            yield
        finally:
            leases.release(name)


def _train(
    source: RecipeModel,
    store: Store,
    path: Path,
    train: Train,
    device: str,
    report: Callable[[float, str], None],
    journal: Journal,
) -> None:
    if not _is_saved(path):
        journal = journal._replace(folder=store.training(source.key))
        trained = train(
            source.recipe, source.examples, device=device, report=report, journal=journal, test=source.test
        )
        if not _is_saved(path):  # another process may have been faster, and its weights are in use already
            save(trained.network, path, _card(source, trained))
        (store.training(source.key) / "state.pt").unlink(missing_ok=True)


def _is_saved(path: Path) -> bool:
    return path.exists() and path.with_suffix(".json").exists()


def _card(source: RecipeModel, trained: Trained) -> dict[str, object]:
    recipe: Recipe = source.recipe
    return {
        "key": source.key,
        "recipe": recipe.spec(),
        "data": {"source": source.examples.source, "fingerprint": source.examples.fingerprint},
        "channels": source.examples.shape[0],
        "classes": source.examples.classes,
        "evaluations": trained.evaluations,
        "steps": trained.steps,
        **({} if (names := source.examples.class_names) is None else {"class_names": list(names)}),
        **trained.usage,
        **_noise(source.examples, trained),
        **_test(source),
        "passes": _passes(recipe, trained),
        "history": json.loads(json.dumps(trained.history)),
    }


WATCHED = (
    "evaluations",
    "steps",
    "train_accuracy",
    "validation_accuracy",
    "test_accuracy",
    "used",
    "wrong_chosen",
    "wrong_weight",
)
"""What a report shows of each pass."""


def _passes(recipe: Recipe, trained: Trained) -> dict[str, Any]:
    """Return what a report tells of the training, for all passes."""
    columns = {name: [row.get(name) for row in trained.history] for name in WATCHED}
    curriculum = "shuffled" if recipe.curriculum is None else _told(recipe.curriculum)
    return {
        "curriculum": curriculum,
        "chosen_by_class": trained.usage["chosen_by_class"],
        **{name: values for name, values in columns.items() if any(value is not None for value in values)},
    }


def _told(curriculum: Curriculum) -> str:
    """Return a curriculum's name, with the fields that are not as they are by default."""
    known, made = describe(curriculum), cast("Any", type(curriculum))
    usual = {field.name: field.default for field in dataclasses.fields(made)}
    others = [f"{name}={str(value)[:20]}" for name, value in known.params.items() if value != usual[name]]
    return f"{known.name}({', '.join(others)})" if others else known.name


def _test(source: RecipeModel) -> dict[str, object]:
    """Return that test images chose what was trained on, if they did."""
    curriculum = source.recipe.curriculum
    if source.test is None or curriculum is None or not curriculum.looks_at_test:
        return {}
    told = "test images decided what was trained on: its accuracy on them is no estimate"
    return {"leak": told, "test_fingerprint": source.test.fingerprint}


def _noise(examples: Examples, trained: Trained) -> dict[str, object]:
    """Return which part of the training labels is wrong and how much of each was learnt; nothing without noise."""
    if examples.corrupted is None:
        return {}
    wrong = float(examples.corrupted.double().mean())
    return {"wrong_labels": wrong, "memorisation": memorisation(trained.history)}
