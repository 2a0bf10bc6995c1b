"""What cannot be where gradients lead somewhere: a larger radius that breaks less, a single step that beats many, noise
or a black box that beats the white box.

After Athalye, Carlini and Wagner 2018 (arXiv 1802.00420, section 3.1) and Carlini et al. 2019 (arXiv 1902.06705,
section 4). Each is compared on the same images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from robust_eval.checks.card import check
from robust_eval.findings import Check
from robust_eval.results.attacked import (
    Attacked,
    broken,
    fixed,
    kind,
    made_elsewhere,
    method_of,
    of_library,
    radii_of,
    same_radius,
    why_unknown,
)
from robust_eval.results.comparisons.group import Compared, Found, Group, alone, compared, together, worst_of
from robust_eval.results.record import Record

__all__ = ["beats_baselines", "beats_single_step", "monotone_in_eps"]


@check(words="images broken at a smaller radius only", unit="share", masked=True, across=10)
def monotone_in_eps(group: Group) -> Found:
    """Fail where an attack breaks clearly fewer images at a radius than at a smaller one."""
    series: dict[str, list[Attacked]] = defaultdict(list)
    for attack in _optimising(group.records):
        if not attack.single_step:
            series[attack.setting].append(attack)
    for attacks in series.values():
        for larger in attacks:
            smaller = [attack for attack in attacks if attack.eps < larger.eps * (1 - 1e-6)]
            if smaller:
                yield (
                    larger.key,
                    worst_of(
                        "monotone_in_eps",
                        "fail",
                        [compared(larger.broken, attack.broken) for attack in smaller],
                        "breaks fewer images than at a smaller radius, which cannot be: the attack does not optimise "
                        "(masked gradients, or steps that do not fit the radius); do not quote this number",
                    ),
                )


@check(words="images broken by one step but not by the attack", unit="share", masked=True, across=20)
def beats_single_step(group: Group) -> Found:
    """Fail where an iterative attack breaks clearly fewer images than FGSM in the same ball."""
    attacks = _optimising(group.records)
    for attack in attacks:
        steps = [fgsm for fgsm in attacks if fgsm.name == "fgsm" and fgsm.at(attack)]
        if not steps:
            continue
        method = method_of(attack.name)
        if method is None:
            # of a library's nothing is asked, known or not
            if not (attack.single_step or of_library(attack.name)):
                yield attack.key, Check.not_made("beats_single_step", why_unknown(attack.name))
        elif method.gradients and method.beats_single_step and not method.single_step:
            yield (
                attack.key,
                worst_of(
                    "beats_single_step",
                    "fail",
                    [compared(attack.broken, fgsm.broken) for fgsm in steps],
                    "many steps break fewer images than the one step of fgsm: gradients are masked, or the steps are "
                    "too few or too short; do not quote this number",
                ),
            )


@check(words="images broken by a baseline but not by the attack", unit="share", suspicious=True, across=30)
def beats_baselines(group: Group) -> Found:
    """Warn where noise or a black box breaks images that no attack with gradients does, at one norm and radius."""
    found: dict[str, list[Compared]] = defaultdict(list)
    names: dict[str, set[str]] = defaultdict(set)
    missing: dict[str, Check] = {}
    for baseline in group.records:
        if kind(baseline) != "baseline":
            continue
        name, norm = baseline.labels["perturbation"], baseline.labels["norm"]
        for eps in radii_of(baseline):
            beside = [
                record
                for record in group.records
                if record.labels["access"] != "transfer"
                and record.labels["norm"] == norm
                and any(same_radius(radius, eps) for radius in radii_of(record))
            ]
            for record in beside:
                if kind(record) == "unknown":
                    why = why_unknown(str(record.labels["perturbation"]))
                    missing[record.key] = Check.not_made("beats_baselines", why)
            seen = [record for record in beside if kind(record) == "white"]
            if not seen:
                continue
            gap = alone(together([broken(record, eps) for record in seen]), broken(baseline, eps))
            for record in seen:
                found[record.key].append(gap)
                if gap.clear:
                    names[record.key].add(name)
    yield from missing.items()
    for key, comparisons in found.items():
        told = " and ".join(sorted(names[key])) or "a baseline"
        yield (
            key,
            worst_of(
                "beats_baselines",
                "warn",
                comparisons,
                f"{told} without gradients breaks images that no attack with gradients does: gradients are masked or "
                "the attacks too short; quote the worst case with it",
            ),
        )


def _optimising(records: Sequence[Record]) -> list[Attacked]:
    """Return the attacks within a radius that look for errors of the very model that is scored."""
    return [
        Attacked.of(record)
        for record in records
        if fixed(record)
        and record.labels["access"] != "transfer"
        and not made_elsewhere(str(record.labels["perturbation"]))
    ]
