"""Named sets of attacks: how much to spend on a model.

``quick`` is a look: a few steps each, minutes even on a CPU. It finds what is not robust, and proves nothing.
``default`` are the six attacks that papers on regularizers report, and Auto-PGD.
``strong`` is what a claim of robustness should survive: a baseline of random noise, the smallest perturbations in linf
and l2, long walks with restarts, and AutoAttack (Croce and Hein 2020) in its standard form, the cheap ones first. Each
is made on all images: who is broken by one of them does not depend on the order.
``black_box`` is what a function without gradients allows: Square and HopSkipJump, 1000 queries an image each.

Each is a list of tables as in an experiment file; radii are given beside it, and any field can still be set.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from robust_eval.config.method_tables import AttackPlan, Table
from robust_eval.errors import UnknownNameError
from robust_eval.registry import describe
from robust_eval.threat import length_text

__all__ = ["BUDGETS", "Setting", "budget", "settings"]

BUDGETS: dict[str, tuple[Table, ...]] = {
    "quick": (
        {"name": "fgsm"},
        {"name": "pgd", "steps": 10},
        {"name": "deepfool", "steps": 10},
    ),
    "default": (
        {"name": "fgsm"},
        {"name": "bim"},
        {"name": "mim"},
        {"name": "pgd"},
        {"name": "cw"},
        {"name": "deepfool"},
        {"name": "apgd_ce"},
    ),
    "black_box": (
        {"name": "square", "queries": 1000},
        {"name": "hop_skip_jump", "queries": 1000},
    ),
    "strong": (
        {"name": "noise"},
        {"name": "fmn", "steps": 200},
        {"name": "pgd", "steps": 100, "restarts": 5},
        {"name": "cw", "steps": 200},
        {"name": "auto_attack"},
    ),
}


def budget(name: str) -> list[Table]:
    """Return the tables of a budget; raises ``UnknownNameError`` with the nearest name."""
    if name not in BUDGETS:
        raise UnknownNameError("budget", name, BUDGETS)
    return [dict(table) for table in BUDGETS[name]]


class Setting(NamedTuple):
    """An attack as it will be run, in words."""

    name: str
    threat: str
    params: str


def settings(plans: Iterable[AttackPlan]) -> list[Setting]:
    """Return each attack with its radii and all of its other parameters."""
    radii: dict[tuple[str, str, str], list[str]] = {}
    for plan in plans:
        name, params = describe(plan.attack).name, describe(plan.attack).params
        rest = [f"{key}={_text(value)}" for key, value in params.items() if key not in ("eps", "norm")]
        threat = plan.attack.threat
        norm = f"smallest {threat.norm}, at" if threat.eps is None else threat.norm
        lengths = radii.setdefault((name, norm, ", ".join(rest) or "none"), [])
        lengths += [
            length_text(eps, threat.norm) for eps in (plan.score_at if threat.eps is None else (threat.eps,))
        ]
    return [
        Setting(name, f"{norm} {', '.join(dict.fromkeys(lengths))}", params)
        for (name, norm, params), lengths in radii.items()
    ]


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
