"""Which attacks' accuracy may be estimated from some of the images, and which are made on all of them.

Made on all are attacks that look for the smallest perturbation, whose record is of distances; those towards a class,
whose record says how often it was reached; and those by transfer, which several defenses share.
"""

from __future__ import annotations

from robust_eval.config.method_tables import AttackPlan

__all__ = ["is_estimable", "on_all_images"]


def is_estimable(plan: AttackPlan) -> bool:
    """Whether an attack may be estimated where it sees what is scored."""
    return not plan.attack.minimal_norm and getattr(plan.attack, "target", None) is None


def on_all_images(plan: AttackPlan, *, defended: bool) -> str:
    """Return why an attack is made on all images all the same; empty where it is not."""
    if plan.attack.minimal_norm:
        return "looks for the smallest perturbation"
    if getattr(plan.attack, "target", None) is not None:
        return "looks for one class"
    return "by transfer" if defended and "transfer" in plan.access else ""
