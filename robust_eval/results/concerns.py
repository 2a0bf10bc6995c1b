"""Which checks say something about which numbers: a fault of the model's answers concerns all of them, one of its
gradients the attacks that follow them.
"""

from __future__ import annotations

from robust_eval.checks.card import card_of
from robust_eval.results.attacked import EXAMINED, identity, kind_of
from robust_eval.results.record import Record

__all__ = ["concerns", "examines"]


def examines(examination: Record, record: Record) -> bool:
    """Whether a model was examined as the one that a record is about: same weights, data and defense.

    What was crafted on the undefended model (access transfer) is also a matter of that model's examination. Of attacks
    that may change some pixels only, an examination must have been held to the same ones.
    """
    attack = record.labels.get("family") == "attack"
    if attack and examination.spec.get("mask") != record.spec.get("mask"):
        return False
    if identity(examination.spec, EXAMINED) == identity(record.spec, EXAMINED):
        return True
    undefended = examination.spec.get("defense") is None
    crafted = attack and record.labels.get("access") == "transfer"
    same = identity(examination.spec, ("model", "data")) == identity(record.spec, ("model", "data"))
    return undefended and crafted and same


def concerns(name: str, record: Record, *, scored: bool = True) -> bool:
    """Whether a check of this name, found on a model, says something about a number of it.

    ``scored``: on the model that the number is of, not the one that its attack was crafted on. What checks say of
    gradients concerns attacks that follow them, and of a defended model not those that are crafted without it.
    """
    about = card_of(name).about
    if about == "answers" or record.labels.get("family") != "attack":
        return about == "answers"
    if scored and record.labels["access"] == "transfer":
        return about != "gradients"
    return about != "gradients" or kind_of(str(record.labels["perturbation"])) != "baseline"
