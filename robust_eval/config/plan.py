"""A validated experiment becomes a list of cells.

This is where images are read and the user's own models are loaded and tried; nothing is trained or written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from robust_eval.checks.examination import Examination
from robust_eval.config.estimable import is_estimable
from robust_eval.config.experiment import Experiment, ModelTable
from robust_eval.config.method_tables import AnalysisPlan
from robust_eval.config.misfits import misfits_of
from robust_eval.config.numbering import counted_alike, counted_from_0
from robust_eval.corruptions._given import given
from robust_eval.data import NOISE, Examples, noise, require_same_shape, resized, without_labels
from robust_eval.data.mask import PixelMask
from robust_eval.errors import ConfigError, DataError
from robust_eval.identity import content_key
from robust_eval.methods import Analysis, Attack, Defense, Task
from robust_eval.models.named import from_anywhere
from robust_eval.models.recipe import Recipe
from robust_eval.models.source import ModelSource, OwnModel, RecipeModel, own_model
from robust_eval.registry import describe
from robust_eval.results.cell import Cell, Data
from robust_eval.rng import Rng
from robust_eval.surroundings import surroundings_kept
from robust_eval.threat import DEFAULT_RADIUS, Access

__all__ = ["models", "plan"]


@surroundings_kept()  # sets of images and factories may be of the user's
def plan(experiment: Experiment) -> list[Cell]:
    """Return the cells of an experiment, model by model.

    Loads the images, the pool and the user's own models; raises ``RobustEvalError`` for any that cannot be used.
    """
    source = experiment.source()
    examples = source.test(experiment.frame.data.n)
    if (files := experiment.corrupted()) is not None:
        experiment = replace(experiment, corruptions=given(files, experiment.corruptions, examples))
    mask = experiment.mask(source, examples)
    found: Sequence[ModelSource] | None = None
    if not experiment.recipes:
        examples, found = counted_from_0(examples, source, lambda each: _models(experiment, None, each))
    mixes = any(defense.needs_pool for defense in experiment.defenses)
    looks = any(plan.analysis.needs_training for plan in experiment.analyses)
    named = experiment.frame.data.pool is not None
    train = source.train() if experiment.recipes or ((mixes or looks) and not named) else None
    # an analysis looks at training images where there are some
    pooled = mixes or (looks and (named or train is not None))
    shaped: list[Attack | Defense] = [*(attack.attack for attack in experiment.attacks), *experiment.defenses]
    if misfits := [text for method in shaped if (text := method.misfit(examples.shape))]:
        raise ConfigError(dict.fromkeys(misfits))
    if mask is not None:
        _require_maskable(experiment)
    data = Data(
        source.name, examples, counted_alike(_pool(experiment, train, examples), found) if pooled else None
    )
    learnt = None if data.pool is None else data.pool.labels
    looked = [plan.analysis for plan in experiment.analyses]
    if lacking := [text for analysis in looked if (text := analysis.lacks(examples.labels, learnt))]:
        raise DataError("\n".join(dict.fromkeys(lacking)))
    analyses = [
        (plan.analysis, other)
        for plan in experiment.analyses
        for other in _others(experiment, plan, examples)
    ]
    cells: dict[str, Cell] = {}
    known: dict[str, str] = {}
    for model in found or _models(experiment, train, examples):
        same_as = known.setdefault(content_key(model.identity), model.name)
        if same_as != model.name:
            raise ConfigError(
                f"model {model.name!r} is the same as {same_as!r}: same weights or same recipe; drop one"
            )
        if problems := misfits_of(model, [plan.attack for plan in experiment.attacks], analyses):
            raise ConfigError(problems)
        for cell in _cells(experiment, model, data, analyses, mask):
            same = cells.get(cell.key)
            # one cell, however often it is asked for: it is scored at all of the radii
            score_at = tuple(sorted({*cell.score_at, *(same.score_at if same else ())}))
            cells[cell.key] = replace(same or cell, score_at=score_at)
    return list(cells.values())


@surroundings_kept()
def models(experiment: Experiment) -> list[ModelSource]:
    """Return the models to train, then the user's own, loaded and tried on an image."""
    source = experiment.source()
    examples = (
        source.test(experiment.frame.data.n) if experiment.frame.model or _looks_at_test(experiment) else None
    )
    return _models(experiment, source.train() if experiment.recipes else None, examples)


def _looks_at_test(experiment: Experiment) -> bool:
    """Whether a training sees test images: to log the accuracy on them, or as its curriculum's leak."""
    curricula = [recipe.curriculum for _, recipe in experiment.recipes]
    return experiment.frame.watch_test or any(each is not None and each.looks_at_test for each in curricula)


def _models(experiment: Experiment, train: Examples | None, examples: Examples | None) -> list[ModelSource]:
    found: list[ModelSource] = []
    if experiment.recipes:
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
        common = train
        own: dict[str, Examples] = {}
        for name, recipe in experiment.recipes:
            train = _trained_on(experiment, name, common, own)
            for option, numbers in (("mean", recipe.mean), ("std", recipe.std)):
                if numbers is not None and len(numbers) != train.shape[0]:
                    raise ConfigError(
                        f"model {name}: {option}: expected {train.shape[0]} numbers, one per channel, "
                        f"got {list(numbers)}"
                    )
            watched = examples if _looks_at_test(experiment) else None
            _require_startable(name, recipe, train, watched)
            found.append(RecipeModel(name, recipe, train, watched))
    for table in experiment.frame.model:
        assert examples is not None
        found.append(_own_model(experiment, table, examples))
    if experiment.given is not None:
        assert examples is not None
        found += [make(examples) for make in experiment.given.models]
    return found


def _trained_on(experiment: Experiment, name: str, common: Examples, known: dict[str, Examples]) -> Examples:
    """Return the training images of a model; those that several share are read once."""
    if not (changes := experiment.own_data.get(name)):
        return common
    key = content_key(dict(changes))
    if key not in known:
        found = experiment.source_for(name).train()
        assert found is not None  # there are common ones
        known[key] = found
    return known[key]


def _require_startable(name: str, recipe: Recipe, train: Examples, test: Examples | None) -> None:
    """Raise ``ConfigError`` for a curriculum that these images are not for, before anything is trained."""
    if recipe.curriculum is None:
        return
    held_out = round(len(train) * recipe.validation)
    # one of each class, and then as many as will be trained on: which of them, training decides
    labels, _ = train.labels.cpu().sort(stable=True)
    repeats = labels.diff(prepend=labels[:1] - 1) == 0
    labels = labels[repeats.byte().argsort(stable=True)][: len(labels) - held_out]
    task = Task(
        labels,
        train.classes,
        min(recipe.batch_size, len(labels)),
        held_out,
        Rng(recipe.seed),
        0 if test is None else len(test),
    )
    try:
        recipe.curriculum.start(task)
    except ConfigError as error:
        raise ConfigError(f"model {name}: {error}") from None


def _cells(
    experiment: Experiment,
    model: ModelSource,
    data: Data,
    analyses: list[tuple[Analysis, Data | None]],
    mask: PixelMask | None,
) -> list[Cell]:
    cells = []
    for defense in (None, *experiment.defenses):
        shared: dict[str, Any] = {"model": model, "data": data, "defense": defense}
        shared |= {"seed": experiment.frame.seed, "draws": experiment.frame.draws}
        shared |= {"gradient_draws": experiment.frame.gradient_draws}
        cells.append(Cell(**shared))
        examined = experiment.frame.checks != "off"
        # an analysis alone is an experiment of its own, such as on a network that is not trained
        shown = experiment.corruptions or not analyses
        if examined and shown and not experiment.attacks and defense is None:
            cells.append(Cell(**shared, perturbation=Examination(level="answers")))
        if examined and experiment.attacks:
            seen: Access = "none" if defense is None else "adaptive"
            looks = _examinations(experiment)
            cells += [Cell(**shared, perturbation=look, access=seen, mask=mask) for look in looks]
        for each in experiment.attacks:
            few = experiment.frame.estimate if is_estimable(each) else None
            for how in ("none",) if defense is None else each.access:
                at: dict[str, Any] = {"access": how, "score_at": each.score_at, "mask": mask}
                at |= {"estimate": None if how == "transfer" else few}
                cells.append(Cell(**shared, **at, perturbation=each.attack))
        cells += [Cell(**shared, perturbation=corruption) for corruption in experiment.corruptions]
    seed = experiment.frame.seed
    return [*cells, *(Cell(model, data, analysis, seed=seed, other=other) for analysis, other in analyses)]


def _require_maskable(experiment: Experiment) -> None:
    """Raise ``ConfigError`` for a mask that holds nobody, and for attacks that cannot be held to one."""
    attacks = [plan.attack for plan in experiment.attacks]
    refused = [describe(attack).name for attack in attacks if attack.masked_as is None]
    if not attacks:
        raise ConfigError(
            "mask: expected an attack that it is for, got none; name some, or leave the mask out"
        )
    if refused:
        raise ConfigError(
            f"mask: expected attacks that can be held to the free pixels, got {', '.join(dict.fromkeys(refused))}; "
            "leave out those that turn images, ask another model or are another library's"
        )


def _others(experiment: Experiment, plan: AnalysisPlan, examples: Examples) -> list[Data | None]:
    """Return the sets that an analysis compares with, as many images of each as are measured or as there are."""
    if not plan.analysis.compares:
        return [None]
    found: list[tuple[str, Data]] = []
    analysis = describe(plan.analysis).name
    for name in plan.others:
        if name in NOISE:
            if plan.analysis.needs_labels:
                raise ConfigError(
                    f"{analysis}: expected another test set of the same classes, got {name} noise, which has no "
                    "labels; name a set that has, or compare with noise by detection"
                )
            rng = Rng(experiment.frame.seed).child("other", name)
            found.append((name, Data(name, noise(name, len(examples), examples.shape, rng=rng))))
            continue
        source = experiment.other_source(name)
        others = None if plan.analysis.needs_labels else without_labels(source)
        others = others or source.test(None)
        others = others.first(min(len(others), len(examples)))
        if plan.resize and others.shape[1:] != examples.shape[1:]:
            others = resized(others, examples.shape[1:])
        require_same_shape(f"{analysis}: {name}", examples.shape, others.shape)
        found.append((name, Data(source.name, others)))
    uses = Counter(data.name for _, data in found)
    return [
        data if uses[data.name] == 1 else replace(data, name=f"{_parent(experiment, name)}/{data.name}")
        for name, data in found
    ]


def _parent(experiment: Experiment, name: str) -> str:
    """Return the folder that a set lies in."""
    return Path(experiment.absolute(name)).resolve().parent.name


def _examinations(experiment: Experiment) -> list[Examination]:
    """Return one examination for each norm that is attacked in, at the radius nearest to the usual one.

    Those after the first leave out what the first answers for all norms. Where no attack has a norm that can be
    examined, the usual radius in linf stands for all.
    """
    level = experiment.frame.checks
    assert level != "off"
    radii: dict[Literal["linf", "l2"], list[float]] = {}
    for attack, _, score_at, _ in experiment.attacks:
        norm = attack.threat.norm
        # what may change an image at will has a radius in name only
        if (norm == "linf" or norm == "l2") and not getattr(attack, "unbounded", False):
            radii.setdefault(norm, []).extend(eps for eps in (attack.threat.eps, *score_at) if eps)
    found = [
        Examination(level=level, norm=norm, eps=_nearest(given, DEFAULT_RADIUS[norm]), norm_only=i > 0)
        for i, (norm, given) in enumerate((norm, given) for norm, given in radii.items() if given)
    ]
    return found or [Examination(level=level)]


def _nearest(radii: Sequence[float], usual: float) -> float:
    """Return the radius whose ratio to the usual one is nearest to 1; the first of several."""
    return min(radii, key=lambda eps: abs(math.log(eps / usual)))


def _pool(experiment: Experiment, train: Examples | None, examples: Examples) -> Examples:
    frame = experiment.frame
    if frame.data.pool is not None:
        given = experiment.pool_source()
        pool = given.train() or given.test(None)
    else:
        if train is None:
            names = [describe(defense).name for defense in experiment.defenses if defense.needs_pool]
            mixing = ", ".join(dict.fromkeys(names))
            raise DataError(
                f"data {frame.data.name}: {mixing} mixes with training images, and there are none; name some with "
                "--pool (pool = in [data]), or put train_images and train_labels into the file"
            )
        pool = train
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
    architecture = from_anywhere(table.architecture, experiment.absolute)
    checkpoint = table.checkpoint
    return own_model(
        checkpoint=None if checkpoint is None else Path(experiment.absolute(checkpoint)),
        architecture=architecture,
        name=table.name,
        mean=table.mean,
        std=table.std,
        examples=examples,
        seed=table.seed,
        weights=table.weights,
        download=table.download,
    )


def _shape(examples: Examples) -> str:
    channels, height, width = examples.shape
    return f"{channels}x{height}x{width}"
