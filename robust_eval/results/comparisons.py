"""What several attacks on one model say about each other, when a report is written: from rows, nothing is run.

Athalye, Carlini and Wagner 2018 (arXiv 1802.00420, section 3.1) and Carlini et al. 2019 (arXiv 1902.06705, section 4)
list what cannot be where gradients lead somewhere: a single step that beats many, a black box or noise that beats the
white box, a larger radius that breaks less. Each of these is compared on the same images. *Broken* is an image with a
score below 0.5: misclassified, on most draws by a randomised model.

*Clearly* means an exact test at 1 %, one-sided. Of two attacks where one must not be weaker it is McNemar's: of the
images that only one of them breaks, are too many the weaker's? Beside a baseline it is a binomial one: do the images
that only the baseline breaks exceed half a point of accuracy? AutoAttack warns from 0.2 points on, after three strong
attacks; here the white box may be one walk up the cross-entropy, which on adversarially trained networks misses a few
tenths of a point that a black box with a margin loss finds.

Of each number of a radius it is asked as well whether the attack was one that finds errors at all
(:func:`strong_enough`), and whether it leaves images standing that the few probes of an examination broke
(:func:`beats_examination`).

Left out of comparisons, as they may be weaker without anything being wrong: points made for another model (access
transfer, and the baselines ``transfer:...``), single steps at several radii (a long step overshoots), attacks towards a
target class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import pandas as pd

from robust_eval.findings import VERDICTS, Check
from robust_eval.metrics.exact_tests import above, more_often
from robust_eval.registry import find
from robust_eval.results.attacked import (
    EXAMINED,
    Attacked,
    broken,
    fixed,
    identity,
    kind,
    made_elsewhere,
    near,
    one_step_by_name,
    params_of,
    radii_of,
    same_radius,
    weak,
)
from robust_eval.results.record import Record

__all__ = [
    "across",
    "adaptive_beats_transfer",
    "attacked_adaptively",
    "beats_baselines",
    "beats_examination",
    "beats_single_step",
    "behind_examinations",
    "finds_most",
    "monotone_in_eps",
    "strong_enough",
]

TOLERANCE = 0.005
"""Share of the images that a baseline may break alone."""
GAP = 0.05
"""Share of the images that an attack may leave standing of those that an examination broke before it fails."""
ROUNDING = 1e-6
"""Of distances in float32."""

_ITERATIVE = ("bim", "mim", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "auto_attack")
_SAME = (*EXAMINED, "seed", "draws")

Found = Iterator[tuple[str, Check]]
"""Keys of records, each with a check of it."""


def across(records: Iterable[Record], examinations: Iterable[Record] = ()) -> dict[str, list[Check]]:
    """Return the further checks of finished records by key; those of other models, data or seeds are kept apart.

    A comparison that was made and found nothing is a check that passed; one without a partner is none.
    """
    looks: dict[str, list[Record]] = defaultdict(list)
    for examination in examinations:
        looks[identity(examination.spec, EXAMINED)].append(examination)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.labels.get("family") == "attack":
            groups[identity(record.spec, _SAME)].append(record)
    found: dict[str, list[Check]] = defaultdict(list)
    for group in groups.values():
        for look in (
            monotone_in_eps,
            beats_single_step,
            beats_baselines,
            adaptive_beats_transfer,
            attacked_adaptively,
            strong_enough,
            finds_most,
        ):
            for key, check in look(group):
                found[key].append(check)
        for key, check in beats_examination(group, looks.get(identity(group[0].spec, EXAMINED), ())):
            found[key].append(check)
    return dict(found)


def monotone_in_eps(records: Sequence[Record]) -> Found:
    """Fail where an attack breaks clearly fewer images at a radius than at a smaller one."""
    series: dict[str, list[Attacked]] = defaultdict(list)
    for attack in _optimising(records):
        if not attack.single_step:
            series[attack.setting].append(attack)
    for attacks in series.values():
        for larger in attacks:
            smaller = [attack for attack in attacks if attack.eps < larger.eps * (1 - 1e-6)]
            if smaller:
                yield (
                    larger.key,
                    _worst(
                        "monotone_in_eps",
                        "fail",
                        [_compared(larger.broken, attack.broken) for attack in smaller],
                        "breaks fewer images than at a smaller radius, which cannot be: the attack does not optimise "
                        "(masked gradients, or steps that do not fit the radius); do not quote this number",
                    ),
                )


def beats_single_step(records: Sequence[Record]) -> Found:
    """Fail where an iterative attack breaks clearly fewer images than FGSM in the same ball."""
    attacks = _optimising(records)
    for attack in attacks:
        steps = [fgsm for fgsm in attacks if fgsm.name == "fgsm" and fgsm.at(attack)]
        if attack.name in _ITERATIVE and steps:
            yield (
                attack.key,
                _worst(
                    "beats_single_step",
                    "fail",
                    [_compared(attack.broken, fgsm.broken) for fgsm in steps],
                    "many steps break fewer images than the one step of fgsm: gradients are masked, or the steps are "
                    "too few or too short; do not quote this number",
                ),
            )


def beats_baselines(records: Sequence[Record]) -> Found:
    """Warn where noise or a black box breaks images that no attack with gradients does, at one norm and radius."""
    found: dict[str, list[_Compared]] = defaultdict(list)
    names: dict[str, dict[str, float]] = defaultdict(dict)
    for baseline in records:
        if kind(baseline) != "baseline":
            continue
        name, norm = baseline.labels["perturbation"], baseline.labels["norm"]
        for eps in radii_of(baseline):
            seen = [
                record
                for record in records
                if kind(record) == "white"
                and record.labels["access"] != "transfer"
                and record.labels["norm"] == norm
                and any(same_radius(radius, eps) for radius in radii_of(record))
            ]
            if not seen:
                continue
            union = _union([broken(record, eps) for record in seen])
            compared = _alone(union, broken(baseline, eps))
            for record in seen:
                found[record.key].append(compared)
                if compared.clear:
                    names[record.key][name] = compared.figure
    for key, comparisons in found.items():
        told = " and ".join(sorted(names[key])) or "a baseline"
        yield (
            key,
            _worst(
                "beats_baselines",
                "warn",
                comparisons,
                f"{told} without gradients breaks images that no attack with gradients does: gradients are masked or "
                "the attacks too short; quote the worst case with it",
            ),
        )


def adaptive_beats_transfer(records: Sequence[Record]) -> Found:
    """Warn where an attack through a defense breaks clearly fewer images than the same one made without it."""
    attacks = [Attacked.of(record) for record in records if kind(record) != "baseline" and fixed(record)]
    for attack in attacks:
        if attack.access != "adaptive":
            continue
        others = [
            other
            for other in attacks
            if other.access == "transfer" and other.setting == attack.setting and other.at(attack)
        ]
        if others:
            yield (
                attack.key,
                _worst(
                    "adaptive_beats_transfer",
                    "warn",
                    [_compared(attack.broken, other.broken) for other in others],
                    "the attack through the defense breaks fewer images than the same attack on the undefended model: "
                    "it is not adapted to the defense (more draws, more steps); quote the worst case over both",
                ),
            )


def attacked_adaptively(records: Sequence[Record]) -> Found:
    """Warn about a defended model that was attacked by transfer alone, in this norm and near this radius.

    Attacks that look for the smallest perturbation are warned about already (``minimal_transfer``).
    """
    through = [record for record in records if record.labels["access"] == "adaptive"]
    through = [record for record in through if kind(record) != "baseline"]
    for record in records:
        norm, eps = record.labels["norm"], record.labels["eps"]
        if record.labels["access"] != "transfer" or record.labels["defense"] == "none" or eps is None:
            continue
        same_norm = [other.labels["eps"] for other in through if other.labels["norm"] == norm]
        missing = not any(near(eps, other) for other in same_norm)
        yield (
            record.key,
            Check(
                "attacked_adaptively",
                "warn" if missing else "ok",
                float(missing),
                "nobody attacked through the defense: this number says little; add access adaptive",
            ),
        )


def strong_enough(records: Sequence[Record]) -> Found:
    """Warn about numbers at a radius where only weak attacks were run: noise, one step, a few queries, other models.

    Attacks by transfer are warned about already (``attacked_adaptively``), and make no number of others stronger.
    """
    asked = [record for record in records if record.labels["norm"] in ("linf", "l2", "l1")]
    strong = [record for record in asked if record.labels["access"] != "transfer" and not weak(record)]
    for record in asked:
        if record.labels["access"] == "transfer":
            continue
        alone = [
            eps
            for eps in radii_of(record)
            if not any(
                other.labels["norm"] == record.labels["norm"]
                # the smallest perturbations tell of every radius
                and (other.labels["eps"] is None or same_radius(eps, other.labels["eps"]))
                for other in strong
            )
        ]
        yield (
            record.key,
            Check(
                "strong_enough",
                "warn" if alone and weak(record) else "ok",
                float(len(alone)),
                "only weak attacks were run at this radius (noise, a single step, a black box with few queries): the "
                "accuracy under attack is lower; run pgd, apgd_ce or auto_attack as well",
            ),
        )


def finds_most(records: Sequence[Record]) -> Found:
    """Warn where an attack that looks for the smallest perturbation found none for most of the images.

    Those by transfer are warned about already (``minimal_transfer``).
    """
    for record in records:
        if record.labels["eps"] is not None or record.labels["access"] == "transfer":
            continue
        attacked = record.rows[record.rows["attacked"].astype(bool)]
        if not len(attacked):
            continue
        missed = float((attacked["score"] >= 0.5).mean())
        yield (
            record.key,
            Check(
                "finds_most",
                "warn" if missed > 0.5 else "ok",
                missed,
                "no perturbation was found for most images, though any size would do: there is no median distance; "
                "gradients are masked, or the attack has too few steps",
            ),
        )


def beats_examination(records: Sequence[Record], examinations: Sequence[Record]) -> Found:
    """Warn where an attack leaves standing what the probes of an examination broke, fail where it is many.

    An examination's own attacks are few and short, and go on record image by image (``broken_at``). An attack with
    gradients that is worth quoting breaks about as many of the same images within the same radius. Left out are attacks
    that need not (noise, one step, black boxes, other models' points, a target class): :func:`strong_enough` is for
    those.
    """
    for record in records:
        name = str(record.labels["perturbation"])
        if kind(record) != "white" or record.labels["access"] == "transfer" or one_step_by_name(record):
            continue
        if getattr(find("attack", name), "unbounded", False):
            continue
        checks = [
            check
            for eps in radii_of(record)
            if (check := behind_examinations(broken(record, eps), examinations, record.labels["norm"], eps))
        ]
        if checks:
            yield record.key, max(checks, key=lambda check: (VERDICTS.index(check.verdict), check.figure))


def behind_examinations(
    broken: pd.Series[bool], examinations: Iterable[Record], norm: str, eps: float
) -> Check | None:
    """Return whether attacks that broke these images, by index, within ``eps`` keep up with examinations of the model.

    ``None`` where none looked at the same images in this norm and at no larger radius. *Clearly* more images left
    standing is McNemar's exact test; it fails where they are beyond doubt more than 5 points.
    """
    found: list[tuple[int, float]] = []
    for examination in examinations:
        params, rows = params_of(examination), examination.rows.set_index("index")
        if params.get("norm") != norm or "broken_at" not in rows:
            continue
        probed = rows["broken_at"] <= eps + ROUNDING
        if params["eps"] > eps + ROUNDING and not probed.any():
            continue  # a smaller ball in which nobody has looked
        ours, theirs = broken.align(probed, join="inner")
        if len(ours):
            compared = _compared(ours, theirs)
            many = above(round(compared.figure * len(ours)), len(ours), GAP)
            found.append((compared.clear * (1 + many), compared.figure))
    if not found:
        return None
    verdict, figure = max(found)
    return Check(
        "beats_examination",
        ("ok", "warn", "fail")[verdict],
        figure,
        "the few short attacks of the examination break images that this one leaves: too few steps or too short ones, "
        "or another loss is needed; "
        + ("do not quote this number" if verdict == 2 else "quote the worst case with a stronger attack"),
    )


class _Compared(NamedTuple):
    """How much more the attack that should be weaker breaks."""

    figure: float
    """A share of the images, 0 if it does not break more."""
    clear: bool


def _optimising(records: Sequence[Record]) -> list[Attacked]:
    """Return the attacks within a radius that look for errors of the very model that is scored."""
    return [
        Attacked.of(record)
        for record in records
        if fixed(record)
        and record.labels["access"] != "transfer"
        and not made_elsewhere(str(record.labels["perturbation"]))
    ]


def _union(broken: Sequence[pd.Series[bool]]) -> pd.Series[bool]:
    together = pd.concat(list(broken), axis=1, join="inner")
    return together.any(axis=1)


def _compared(stronger: pd.Series[bool], weaker: pd.Series[bool]) -> _Compared:
    """Compare two attacks by McNemar's exact test, one-sided."""
    stronger, weaker = stronger.align(weaker, join="inner")
    more, fewer = int((weaker & ~stronger).sum()), int((stronger & ~weaker).sum())
    return _Compared(max(0, more - fewer) / max(len(stronger), 1), more_often(more, fewer))


def _alone(union: pd.Series[bool], baseline: pd.Series[bool]) -> _Compared:
    """Count what only a baseline breaks, and test whether it is more than the tolerance."""
    union, baseline = union.align(baseline, join="inner")
    alone, n = int((baseline & ~union).sum()), len(union)
    return _Compared(alone / max(n, 1), above(alone, n, TOLERANCE))


def _worst(
    name: str, verdict: Literal["warn", "fail"], comparisons: Sequence[_Compared], advice: str
) -> Check:
    """Return one check of several comparisons: the clear ones decide, the largest figure of them is shown."""
    clear, figure = max((compared.clear, compared.figure) for compared in comparisons)
    return Check(name, verdict if clear else "ok", figure, advice)
