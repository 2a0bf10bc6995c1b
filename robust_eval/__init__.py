"""Measures how robust an image classifier is, and what bought that robustness."""

from robust_eval.classifier import Classifier
from robust_eval.errors import RobustEvalError
from robust_eval.methods import Attack, Corruption
from robust_eval.registry import build
from robust_eval.rng import Rng

__all__ = ["Attack", "Classifier", "Corruption", "Rng", "RobustEvalError", "attack", "corruption"]


def attack(name: str, **params: object) -> Attack:
    """Return the attack of this name: ``attack("pgd", eps="8/255", steps=40)(model, x, y, rng=Rng(0))``.

    Raises ``ConfigError`` for an unknown name or a field that is misspelt or out of range.
    """
    method: Attack = build("attack", name, params)
    return method


def corruption(name: str, **params: object) -> Corruption:
    """Return the corruption of this name: ``corruption("fog", severity=3)(x, rng=Rng(0))``.

    Raises ``ConfigError`` for an unknown name or a field that is misspelt or out of range.
    """
    method: Corruption = build("corruption", name, params)
    return method
