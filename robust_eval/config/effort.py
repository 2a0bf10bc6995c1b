"""What an experiment costs, from its file alone: nothing is read, built or measured.

The unit is an *evaluation*, one image once through the network. Those of training are with a backward pass, but for the
forward passes in which a curriculum scores images: three of them are one where the budget is counted in evaluations,
and they are not counted where it is counted in steps. Those of measuring are forward passes and gradients apart, at
most: those of images that withstand every attack. A defended model counts as one that answers each image once, an
attack of another library that does not tell what it costs as nothing, and the checks are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from robust_eval.config.experiment import Experiment
from robust_eval.data.sizes import SIZES, Size
from robust_eval.methods import Passes
from robust_eval.models.recipe import Recipe

__all__ = ["Effort", "effort"]


class Effort(NamedTuple):
    """Evaluations of a whole experiment."""

    models: int
    training: int
    """Images through networks in training, forward and backward."""
    measuring: Passes
    at_least: bool
    """Whether something is not counted, as the docstring says."""

    @property
    def text(self) -> str:
        """It in words."""
        told = "at least " if self.at_least else ""
        trained = f"{_count(self.training)} to train {_models(self.models)}, " if self.training else ""
        return (
            f"{told}{trained}{_count(self.measuring.forwards)} forward passes and "
            f"{_count(self.measuring.backwards)} gradients to measure"
        )


def effort(experiment: Experiment, size: Size | None = None) -> Effort | None:
    """Return what an experiment costs; ``None`` where its images are not those of a named set.

    Their number may be given in place of that of the set.
    """
    frame = experiment.frame
    size = size or SIZES.get(frame.data.name)
    if size is None:
        return None
    n = size.test if frame.data.n is None else frame.data.n
    training, at_least = 0.0, False
    for name, recipe in experiment.recipes:
        changes = experiment.own_data.get(name, {})
        training += recipe.epochs * _kept(recipe, size, changes, frame.data.per_class)
        at_least |= recipe.budget == "steps" and (recipe.curriculum is not None)
    one, known = _of_one_model(experiment, n, size.classes)
    models = len(experiment.recipes) + len(frame.model)
    return Effort(models, round(training), one.times(models), at_least or not known)


def _kept(recipe: Recipe, size: Size, changes: Mapping[str, Any], usual: int | None) -> float:
    per_class = changes.get("per_class", usual)
    images = size.train if per_class is None else min(per_class * size.classes, size.train)
    return images * (1 - recipe.validation)


def _of_one_model(experiment: Experiment, n: int, classes: int) -> tuple[Passes, bool]:
    """Return the passes of measuring a model with all of its defenses, and whether they are all known."""
    total, known = Passes(0, 0), True
    draws = experiment.frame.draws
    for defense in (None, *experiment.defenses):
        answers = Passes(n * (draws if defense is not None and defense.stochastic else 1), 0)
        total = total.and_(answers.times(1 + len(experiment.corruptions)))
        for attack, access, _, _ in experiment.attacks:
            for _ in ("none",) if defense is None else access:
                cost = attack.cost(classes)
                known &= cost is not None
                total = total.and_(answers).and_(Passes(0, 0) if cost is None else cost.times(n))
    for plan in experiment.analyses:
        cost = plan.analysis.cost(2 * n if plan.others else n, classes)
        known &= cost is not None
        total = total.and_((cost or Passes(0, 0)).times(max(1, len(plan.others))))
    return total, known


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"


def _count(number: int) -> str:
    """Return a count in three digits."""
    for size, word in ((10**12, " trillion"), (10**9, " billion"), (10**6, " million")):
        if number >= size:
            return f"{number / size:.3g}{word}"
    return f"{number:,}"
