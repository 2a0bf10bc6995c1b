"""torchattacks' attacks: which there are, what they stay within, and how they are called.

The package annotates no types and keeps its distances in prose, so both are read from defaults and docstrings.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from robust_eval.attacks.peers._peer import BLACK_BOX, Call, Goal, Theirs, field_of
from robust_eval.errors import ConfigError, UnknownNameError
from robust_eval.methods import FEW, Passes, walk
from robust_eval.threat import Ball

__all__ = ["find", "known"]

REFUSED = {
    "LGV": "it trains networks on a loader; transfer:NAME attacks a surrogate of yours",
    "MultiAttack": "it holds others; name those, and the report takes the worst case over them",
}
OURS = ("model", "eps", "max_epsilon", "norm", "seed", "verbose", "n_classes")
"""Parameters that are chosen here: the radius, the seed of the cell, the classes of the model."""
REAL = ("c", "kappa", "scale", "lam")
"""Real numbers whose default happens to be whole."""
FOLLOW_GRADIENTS = ("CW", "DeepFool", "EADL1", "EADEN")
"""Those that look for the smallest perturbation along gradients."""
REPEATS = ("eot_iter", "N", "m", "noise_batch_size")
"""Parameters that say how many gradients are averaged at a step."""
NORMS: dict[str, Ball] = {"Linf": "linf", "L2": "l2", "L1": "l1"}


def known() -> dict[str, type[Any]]:
    """Return the attacks by name, those that cannot be used here among them."""
    import torchattacks
    from torchattacks.attack import Attack

    found = {name: getattr(torchattacks, name) for name in dir(torchattacks)}
    return {
        name: cls
        for name, cls in found.items()
        if inspect.isclass(cls) and issubclass(cls, Attack) and cls is not Attack
    }


def find(name: str, library: str) -> Theirs:
    """Return an attack by its name."""
    classes = known()
    if name not in classes:
        raise UnknownNameError("torchattacks attack", name, set(classes) - set(REFUSED))
    if name in REFUSED:
        raise ConfigError(f"attack 'torchattacks:{name}' cannot be used here: {REFUSED[name]}")
    cls = classes[name]
    parameters = inspect.signature(cls.__init__).parameters
    goal, norms = _goal(cls, parameters)
    fields = []
    for parameter in list(parameters.values())[1:]:
        if parameter.name in OURS or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        kind: Any = float if parameter.name in REAL else type(default)
        if isinstance(default, tuple):
            kind = tuple[float | int, ...] | int | float
        field = field_of(parameter.name, kind, default)
        fields += [field] if field is not None else []
    made = _Made(cls)
    cost = functools.partial(_cost, name, goal)
    return Theirs(library, f"torchattacks:{name}", goal, norms, tuple(fields), made.check, made.run, cost)


def _goal(cls: type[Any], parameters: Mapping[str, Any]) -> tuple[Goal, tuple[Ball, ...]]:
    """Return what an attack looks for, and the norms it can be asked for."""
    told = re.search(r"Distance Measure\s*:\s*(.*)", cls.__doc__ or "")
    norms = [NORMS[word] for word in re.findall(r"L\w+", told[1] if told else "") if word in NORMS]
    if "eps" in parameters or "max_epsilon" in parameters:
        return "fixed", tuple(norms) if "norm" in parameters and norms else tuple(norms[:1] or ["linf"])
    if norms:
        return "minimal", tuple(norms[:1])
    return "unbounded", ("linf",)  # counts changed pixels, or has no measure at all


def _cost(name: str, goal: Goal, params: Mapping[str, Any], norm: Ball, classes: int) -> Passes | None:
    restarts = params.get("n_restarts", 1)
    if name == "Square":
        return Passes(params["n_queries"] + 2 * FEW, 0).times(restarts)
    if name == "FAB":
        return walk(params["steps"], columns=classes - 1, forwards=3).times(restarts)
    if name in BLACK_BOX or name == "AutoAttack" or (goal != "fixed" and name not in FOLLOW_GRADIENTS):
        return None
    steps = params.get("steps", params.get("max_iterations", params.get("num_iter_set", 1)))
    walks = restarts * (params["binary_search_steps"] if "initial_const" in params else 1)
    for repeats in REPEATS:
        walks *= params[repeats] + 1 if repeats in params else 1
    # DeepFool: a forward pass for each class's gradient
    return walk(steps * (classes if name == "DeepFool" else 1)).times(walks)


@dataclasses.dataclass(frozen=True)
class _Made:
    """How one of their classes is made and run."""

    cls: type[Any]

    def check(self, params: Mapping[str, Any], norm: Ball) -> None:
        """Make the attack for a network that is never asked."""
        self._make(params, Call(nn.Linear(1, 1), None, None, 0.1, norm, 10, 0))  # type: ignore[arg-type]

    def run(self, params: Mapping[str, Any], call: Call) -> Tensor:
        """Return its points."""
        return self._make(params, call)(call.x, call.y)  # type: ignore[no-any-return]

    def _make(self, params: Mapping[str, Any], call: Call) -> Any:
        theirs = {norm: name for name, norm in NORMS.items()}
        own = {
            "eps": call.eps,
            "max_epsilon": call.eps,
            "norm": theirs[call.norm],
            "seed": call.seed,
            "n_classes": call.classes,
        }
        taken = inspect.signature(self.cls.__init__).parameters
        return self.cls(
            call.network, **params, **{name: value for name, value in own.items() if name in taken}
        )
