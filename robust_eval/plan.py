"""A validated experiment becomes a list of cells.

This is where images are read and the user's own models are loaded and tried; nothing is trained or written.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from robust_eval.cell import Access, Cell, Data, ModelSource, content_key
from robust_eval.config import Experiment, ModelTable
from robust_eval.data import NOISE, Examples, Source, noise, resized
from robust_eval.errors import ConfigError, DataError
from robust_eval.examination import Examination
from robust_eval.method_tables import AnalysisPlan, is_factory
from robust_eval.methods import Analysis
from robust_eval.model_source import OwnModel, RecipeModel, own_model
from robust_eval.registry import describe
from robust_eval.rng import Rng

__all__ = ["models", "plan"]


def plan(experiment: Experiment) -> list[Cell]:
    """Return the cells of an experiment, model by model.

    Loads the images, the pool and the user's own models; raises ``RobustEvalError`` for any that cannot be used.
    """
    source = experiment.source()
    examples = source.test(experiment.frame.data.n)
    mixes = any(defense.needs_pool for defense in experiment.defenses)
    looks = any(plan.analysis.needs_training for plan in experiment.analyses)
    data = Data(source.name, examples, _pool(experiment, source, examples) if mixes or looks else None)
    analyses = [
        (plan.analysis, other)
        for plan in experiment.analyses
        for other in _others(experiment, plan, examples)
    ]
    cells: dict[str, Cell] = {}
    known: dict[str, str] = {}
    for model in _models(experiment, source, examples):
        same_as = known.setdefault(content_key(model.identity), model.name)
        if same_as != model.name:
            raise ConfigError(
                f"model {model.name!r} is the same as {same_as!r}: same weights or same recipe; drop one"
            )
        for cell in _cells(experiment, model, data, analyses):
            same = cells.get(cell.key)
            # one cell, however often it is asked for: it is scored at all of the radii
            score_at = tuple(sorted({*cell.score_at, *(same.score_at if same else ())}))
            cells[cell.key] = replace(same or cell, score_at=score_at)
    return list(cells.values())


def models(experiment: Experiment) -> list[ModelSource]:
    """Return the models to train, then the user's own, loaded and tried on an image."""
    source = experiment.source()
    examples = source.test(experiment.frame.data.n) if experiment.frame.model else None
    return _models(experiment, source, examples)


def _models(experiment: Experiment, source: Source, examples: Examples | None) -> list[ModelSource]:
    found: list[ModelSource] = []
    if experiment.recipes:
        train = source.train()
        if train is None:
            raise DataError(
                f"data {experiment.frame.data.name}: has no training images, and [[train]] needs them; "
                "put train_images and train_labels into the file, or a folder train beside test"
            )
        if examples is not None and int(examples.labels.max()) >= train.classes:
            raise DataError(
                f"data {experiment.frame.data.name}: expected test labels in 0..{train.classes - 1}, the classes "
                f"of its training images, got {int(examples.labels.max())}; number both splits alike"
            )
        for name, recipe in experiment.recipes:
            for option, numbers in (("mean", recipe.mean), ("std", recipe.std)):
                if numbers is not None and len(numbers) != train.shape[0]:
                    raise ConfigError(
                        f"model {name}: {option}: expected {train.shape[0]} numbers, one per channel, "
                        f"got {list(numbers)}"
                    )
            found.append(RecipeModel(name, recipe, train))
    for table in experiment.frame.model:
        assert examples is not None
        found.append(_own_model(experiment, table, examples))
    return found


def _cells(
    experiment: Experiment, model: ModelSource, data: Data, analyses: list[tuple[Analysis, Data | None]]
) -> list[Cell]:
    cells = []
    for defense in (None, *experiment.defenses):
        shared: dict[str, Any] = {"model": model, "data": data, "defense": defense}
        shared |= {"seed": experiment.frame.seed, "draws": experiment.frame.draws}
        shared |= {"gradient_draws": experiment.frame.gradient_draws}
        cells.append(Cell(**shared))
        if experiment.attacks and experiment.frame.checks != "off":
            seen: Access = "none" if defense is None else "adaptive"
            cells.append(Cell(**shared, perturbation=_examination(experiment), access=seen))
        for attack, access, score_at in experiment.attacks:
            for how in ("none",) if defense is None else access:
                cells.append(Cell(**shared, perturbation=attack, access=how, score_at=score_at))
        cells += [Cell(**shared, perturbation=corruption) for corruption in experiment.corruptions]
    seed = experiment.frame.seed
    return [*cells, *(Cell(model, data, analysis, seed=seed, other=other) for analysis, other in analyses)]


def _others(experiment: Experiment, plan: AnalysisPlan, examples: Examples) -> list[Data | None]:
    """Return the sets that an analysis compares with, as many images of each as are measured or as there are."""
    if not plan.analysis.compares:
        return [None]
    found: list[Data | None] = []
    for name in plan.others:
        if name in NOISE:
            rng = Rng(experiment.frame.seed).child("other", name)
            found.append(Data(name, noise(name, len(examples), examples.shape, rng=rng)))
            continue
        source = experiment.other_source(name)
        others = source.test(None)
        others = others.first(min(len(others), len(examples)))
        if plan.resize and others.shape[1:] != examples.shape[1:]:
            others = resized(others, examples.shape[1:])
        found.append(Data(source.name, others))
    return found


def _examination(experiment: Experiment) -> Examination:
    """Return the examination at the first radius that the experiment attacks at."""
    level = experiment.frame.checks
    assert level != "off"
    for attack, _, score_at in experiment.attacks:
        for eps in (attack.threat.eps, *score_at):
            if attack.threat.norm != "l1" and eps:
                return Examination(level=level, norm=attack.threat.norm, eps=eps)
    return Examination(level=level)


def _pool(experiment: Experiment, source: Source, examples: Examples) -> Examples:
    frame = experiment.frame
    if frame.data.pool is not None:
        given = experiment.pool_source()
        pool = given.train() or given.test(None)
    else:
        found = source.train()
        if found is None:
            names = [describe(defense).name for defense in experiment.defenses if defense.needs_pool]
            mixing = ", ".join(dict.fromkeys(names))
            raise DataError(
                f"data {frame.data.name}: {mixing} mixes with training images, and there are none; name some with "
                "--pool (pool = in [data]), or put train_images and train_labels into the file"
            )
        pool = found
    if pool.shape != examples.shape:
        raise DataError(
            f"pool {pool.source}: expected images of {_shape(examples)} like those measured, got {_shape(pool)}"
        )
    kept = pool.without(examples)
    if kept is None:
        raise DataError(
            f"pool {pool.source}: all of its {len(pool)} images are among those measured; "
            "name training images with --pool (pool = in [data])"
        )
    return kept


def _own_model(experiment: Experiment, table: ModelTable, examples: Examples) -> OwnModel:
    architecture = table.architecture
    if isinstance(architecture, str) and is_factory(architecture):
        architecture = experiment.absolute(architecture)
    checkpoint = table.checkpoint
    return own_model(
        checkpoint=None if checkpoint is None else Path(experiment.absolute(checkpoint)),
        architecture=architecture,
        name=table.name,
        mean=table.mean,
        std=table.std,
        examples=examples,
    )


def _shape(examples: Examples) -> str:
    channels, height, width = examples.shape
    return f"{channels}x{height}x{width}"
