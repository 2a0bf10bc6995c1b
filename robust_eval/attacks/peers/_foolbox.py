"""Foolbox's attacks: which there are, what they minimise, and how they are called."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from torch import Tensor

from robust_eval.attacks.peers._peer import BLACK_BOX, Call, Goal, Theirs, field_of
from robust_eval.errors import ConfigError, UnknownNameError
from robust_eval.methods import Passes, walk
from robust_eval.threat import Ball

__all__ = ["find", "known"]

REFUSED = {
    "BinarizationRefinementAttack": "it refines the points of another attack",
    "DatasetAttack": "it must be fed other images",
    "GenAttack": "it needs a target class, and attacks are untargeted here",
}
OURS = ("model", "tensorboard", "distance", "constraint")
"""Parameters that are chosen here, or write files."""
FOLLOW_GRADIENTS = (
    "CarliniWagnerAttack",
    "DeepFoolAttack",
    "DDNAttack",
    "FMNAttack",
    "EADAttack",
    "NewtonFoolAttack",
)
"""Endings of those that look for the smallest perturbation along gradients."""


def known() -> dict[str, type[Any]]:
    """Return the attacks by name, those that cannot be used here among them."""
    from foolbox import attacks
    from foolbox.attacks.base import Attack

    found = {name: getattr(attacks, name) for name in dir(attacks)}
    return {
        name: cls
        for name, cls in found.items()
        if inspect.isclass(cls) and issubclass(cls, Attack) and not inspect.isabstract(cls)
    }


def find(name: str, library: str) -> Theirs:
    """Return an attack by one of its names; of several, its own is the shortest."""
    classes = known()
    if name not in classes:
        raise UnknownNameError("foolbox attack", name, set(classes) - set(REFUSED))
    cls = classes[name]
    own = min((other for other in classes if classes[other] is cls), key=lambda other: (len(other), other))
    if own in REFUSED:
        raise ConfigError(f"attack 'foolbox:{name}' cannot be used here: {REFUSED[own]}")
    hints = get_type_hints(cls.__init__)
    goal, norms = _goal(cls)
    fields = []
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in OURS:
            continue
        default = dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
        # another attack, by its name
        hint = str | None if parameter.name == "init_attack" else hints.get(parameter.name)
        field = field_of(parameter.name, hint, default)
        fields += [field] if field is not None else []
    theirs = _Made(cls)
    cost = functools.partial(_cost, own, goal)
    return Theirs(library, f"foolbox:{own}", goal, norms, tuple(fields), theirs.make, theirs.run, cost)


def _goal(cls: type[Any]) -> tuple[Goal, tuple[Ball, ...]]:
    """Return what an attack looks for, and the norms it can be asked for."""
    from foolbox.attacks.base import FixedEpsilonAttack, FlexibleDistanceMinimizationAttack

    if issubclass(cls, FlexibleDistanceMinimizationAttack):
        return "minimal", ("l2", "linf", "l1")
    if "constraint" in inspect.signature(cls.__init__).parameters:
        return "minimal", ("l2", "linf")
    distance = getattr(cls, "distance", None)
    if isinstance(distance, property):
        distance = cls().distance
    norm = _norms().get(distance)
    if norm is None:  # counts changed pixels, or turns the image
        return "unbounded", ("linf",)
    return ("fixed" if issubclass(cls, FixedEpsilonAttack) else "minimal"), (norm,)


def _cost(name: str, goal: Goal, params: Mapping[str, Any], norm: Ball, classes: int) -> Passes | None:
    if name in BLACK_BOX or (goal != "fixed" and not name.endswith(FOLLOW_GRADIENTS)):
        return None
    searches = params["binary_search_steps"] if "initial_const" in params else 1
    # DeepFool: a forward pass for each class's gradient
    return walk(params.get("steps", 1) * (classes if "DeepFool" in name else 1)).times(searches)


def _norms() -> dict[Any, Ball]:
    from foolbox import distances

    return {distances.linf: "linf", distances.l2: "l2", distances.l1: "l1"}


@dataclasses.dataclass(frozen=True)
class _Made:
    """How one of their classes is made and run."""

    cls: type[Any]

    def make(self, params: Mapping[str, Any], norm: Ball) -> Any:
        """Return the attack object."""
        from foolbox.attacks.base import FlexibleDistanceMinimizationAttack

        given = dict(params)
        if isinstance(first := given.get("init_attack"), str):
            classes = known()
            if first not in classes:
                raise UnknownNameError("foolbox attack", first, classes)
            given["init_attack"] = classes[first]()
        if issubclass(self.cls, FlexibleDistanceMinimizationAttack):
            (given["distance"],) = (distance for distance, name in _norms().items() if name == norm)
        if "constraint" in inspect.signature(self.cls.__init__).parameters:
            given["constraint"] = norm
        if "distance" in given and "distance" not in inspect.signature(self.cls.__init__).parameters:
            attack_distance = given.pop("distance")
            made = self.cls(**given)
            made._distance = attack_distance
            return made
        return self.cls(**given)

    def run(self, params: Mapping[str, Any], call: Call) -> Tensor:
        """Return its points, clipped to the ball by its own rule."""
        from foolbox.attacks.base import AttackWithDistance
        from foolbox.models.pytorch import PyTorchModel

        attack = self.make(params, call.norm)
        model = PyTorchModel(call.network, bounds=(0, 1), device=call.x.device)
        if not isinstance(attack, AttackWithDistance):
            return attack(model, call.x, call.y)[0]  # type: ignore[no-any-return]
        return attack(model, call.x, call.y, epsilons=call.eps)[1]
