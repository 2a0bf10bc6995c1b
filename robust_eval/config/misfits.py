"""Which attacks and analyses are not for a model."""

from __future__ import annotations

from collections.abc import Sequence

from robust_eval.methods import Analysis, Attack
from robust_eval.models.source import ModelSource, OwnModel
from robust_eval.registry import describe
from robust_eval.results.cell import Data
from robust_eval.rng import Rng, seeded

__all__ = ["misfits_of"]


def misfits_of(
    model: ModelSource, attacks: Sequence[Attack], analyses: Sequence[tuple[Analysis, Data | None]]
) -> list[str]:
    """Return why some of these cannot be asked of a model, one line each."""
    return [*_unanalysed(model, analyses), *_beyond(model, attacks), *_blind(model, attacks)]


def _unanalysed(model: ModelSource, analyses: Sequence[tuple[Analysis, Data | None]]) -> list[str]:
    """Return why analyses cannot look at a model, with the sets they compare with."""
    if not analyses:
        return []
    with seeded(Rng(0)):
        network = model.untrained().network
    found = [text for analysis, _ in analyses if (text := analysis.misfit(network))]
    for analysis, other in analyses:
        if model.classes is None or other is None or not analysis.needs_labels:
            continue
        if (highest := int(other.examples.labels.max())) >= model.classes:
            found.append(
                f"{describe(analysis).name}: {other.name}: expected labels in 0..{model.classes - 1}, the outputs of "
                f"the model, got label {highest}; name a test set of the same classes"
            )
    return list(dict.fromkeys(found))


def _beyond(model: ModelSource, attacks: Sequence[Attack]) -> list[str]:
    """Return which attacks push to a class that a model does not have."""
    found = []
    for attack in attacks:
        target = getattr(attack, "target", None)
        if isinstance(target, int) and model.classes is not None and target >= model.classes:
            found.append(
                f"attack {describe(attack).name!r}: target: expected a class in 0..{model.classes - 1}, as model "
                f"{model.name} has, got {target}"
            )
    return list(dict.fromkeys(found))


def _blind(model: ModelSource, attacks: Sequence[Attack]) -> list[str]:
    """Return which attacks ask for gradients that a model does not have."""
    if not (isinstance(model, OwnModel) and model.black_box):
        return []
    names = dict.fromkeys(describe(one).name for one in attacks if one.gradients and one.asks_model)
    if not names:
        return []
    return [
        f"attack {', '.join(map(repr, names))}: expected attacks without gradients, as model {model.name} is a black "
        "box; use square, noise, hop_skip_jump, boundary or transfer:NAME (--budget black_box)"
    ]
