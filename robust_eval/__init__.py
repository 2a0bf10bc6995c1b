"""Measures how robust an image classifier is, and what bought that robustness."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robust_eval import moved

if TYPE_CHECKING:
    from robust_eval.classifier import Classifier as Classifier
    from robust_eval.errors import RobustEvalError as RobustEvalError
    from robust_eval.interface.diff import diff as diff
    from robust_eval.interface.evaluate import evaluate as evaluate
    from robust_eval.interface.gate import gate as gate
    from robust_eval.interface.results import Results as Results
    from robust_eval.interface.results import read as load
    from robust_eval.methods import Attack as Attack
    from robust_eval.methods import Choice as Choice
    from robust_eval.methods import Corruption as Corruption
    from robust_eval.methods import Curriculum as Curriculum
    from robust_eval.methods import Order as Order
    from robust_eval.methods import Task as Task
    from robust_eval.methods import Trial as Trial
    from robust_eval.models.function import Function as Function
    from robust_eval.registry import register as register
    from robust_eval.rng import Rng as Rng
    from robust_eval.threat import Norm as Norm
    from robust_eval.threat import Pixels as Pixels
    from robust_eval.threat import Threat as Threat
    from robust_eval.types import AttackResult as AttackResult
    from robust_eval.types import Images as Images
    from robust_eval.types import Labels as Labels

# torch takes seconds to load: a name is looked up when it is first asked for, so that --help need not wait for it
_PLACES = {
    "Attack": "methods",
    "AttackResult": "types",
    "Classifier": "classifier",
    "Corruption": "methods",
    "Function": "models.function",
    "Images": "types",
    "Labels": "types",
    "Norm": "threat",
    "Results": "interface.results",
    "Pixels": "threat",
    "Rng": "rng",
    "RobustEvalError": "errors",
    "Threat": "threat",
    "Choice": "methods",
    "Curriculum": "methods",
    "Order": "methods",
    "Task": "methods",
    "Trial": "methods",
    "diff": "interface.diff",
    "evaluate": "interface.evaluate",
    "gate": "interface.gate",
    "load": "interface.results",
    "register": "registry",
}
_CALLED = {"load": "read"}
"""Names that are others in their module."""

__all__ = [
    "Attack",
    "AttackResult",
    "Choice",
    "Classifier",
    "Corruption",
    "Curriculum",
    "Function",
    "Images",
    "Labels",
    "Norm",
    "Order",
    "Pixels",
    "Results",
    "Rng",
    "RobustEvalError",
    "Task",
    "Threat",
    "Trial",
    "attack",
    "corruption",
    "diff",
    "evaluate",
    "gate",
    "load",
    "register",
]


moved.install()


def attack(name: str, **params: object) -> Attack:
    """Return the attack of this name: ``attack("pgd", eps="8/255", steps=40)(model, x, y, rng=Rng(0))``.

    Raises ``ConfigError`` for an unknown name or a field that is misspelt or out of range.
    """
    from robust_eval.errors import ConfigError
    from robust_eval.processors import warn_once
    from robust_eval.registry import build

    warn_once()
    method: Attack = build("attack", name, params)
    try:
        _ = method.threat  # a radius beyond all pixels is told now
    except ConfigError as error:
        raise ConfigError(f"attack {name!r}: {error}") from None
    return method


def corruption(name: str, **params: object) -> Corruption:
    """Return the corruption of this name: ``corruption("fog", severity=3)(x, rng=Rng(0))``.

    Raises ``ConfigError`` for an unknown name or a field that is misspelt or out of range.
    """
    from robust_eval.processors import warn_once
    from robust_eval.registry import build

    warn_once()
    method: Corruption = build("corruption", name, params)
    return method


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), _CALLED.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
