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

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import pandas as pd
from scipy.stats import binom

from robust_eval.metrics import score_within
from robust_eval.record import Check, Record
from robust_eval.registry import find

__all__ = [
    "ABOUT_ANSWERS",
    "ABOUT_GRADIENTS",
    "ANY_NORM",
    "across",
    "adaptive_beats_transfer",
    "attacked_adaptively",
    "beats_baselines",
    "beats_examination",
    "beats_single_step",
    "behind_examinations",
    "concerns",
    "examines",
    "finds_most",
    "monotone_in_eps",
    "strong_enough",
]

ABOUT_ANSWERS = frozenset(
    {
        "above_chance",
        "batch_dependence",
        "class_coverage",
        "deterministic",
        "eval_mode",
        "finite",
        "logits",
        "normalisation",
    }
)
"""Checks of an examination that concern every number of a model; all others concern its attacks alone."""
ABOUT_GRADIENTS = frozenset(
    {
        "converged",
        "falls_with_eps",
        "gradient_agrees",
        "gradient_draws",
        "gradients",
        "iterative_beats_single_step",
        "optimises_at_inference",
        "planted",
        "smooth_loss",
        "unbounded",
        "vanishing_gradient",
        "white_box_beats_noise",
        "white_box_beats_square",
        "zero_gradient",
    }
)
"""Checks that concern the attacks alone that follow gradients."""
ANY_NORM = ABOUT_ANSWERS | {
    "gradient_agrees",
    "gradient_draws",
    "gradients",
    "optimises_at_inference",
    "smooth_loss",
    "unbounded",
    "vanishing_gradient",
}
"""Checks of an examination in one norm that hold in all of them."""

LEVEL = 0.01
"""Of the exact tests."""
TOLERANCE = 0.005
"""Share of the images that a baseline may break alone."""
GAP = 0.05
"""Share of the images that an attack may leave standing of those that an examination broke before it fails."""
ROUNDING = 1e-6
"""Of distances in float32."""
FEW_QUERIES = 1000
"""Forward passes below which a black box is a look, not an evaluation: AutoAttack gives Square 5,000."""
COMPARABLE = 2.0
"""Radii that differ by this factor at most say something about each other."""

_ITERATIVE = ("bim", "mim", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "auto_attack")
_SINGLE_STEP = ("fgsm", "fastgradient")
_BUDGETS = ("queries", "n_queries", "max_queries", "steps", "max_iterations")
"""What black boxes, ours and others, call the number of their questions."""
_EXAMINED = ("model", "data", "defense", "pool")
_SAME = (*_EXAMINED, "seed", "draws")

Found = Iterator[tuple[str, Check]]
"""Keys of records, each with a check of it."""
_Kind = Literal["white", "baseline", "unknown"]
_VERDICTS: tuple[Literal["ok", "warn", "fail"], ...] = ("ok", "warn", "fail")


def across(records: Iterable[Record], examinations: Iterable[Record] = ()) -> dict[str, list[Check]]:
    """Return the further checks of finished records by key; those of other models, data or seeds are kept apart.

    A comparison that was made and found nothing is a check that passed; one without a partner is none.
    """
    looks: dict[str, list[Record]] = defaultdict(list)
    for examination in examinations:
        looks[_identity(examination.spec, _EXAMINED)].append(examination)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.labels.get("family") == "attack":
            groups[_identity(record.spec, _SAME)].append(record)
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
        for key, check in beats_examination(group, looks.get(_identity(group[0].spec, _EXAMINED), ())):
            found[key].append(check)
    return dict(found)


def examines(examination: Record, record: Record) -> bool:
    """Whether a model was examined as the one that a record is about: same weights, data and defense.

    What was crafted on the undefended model (access transfer) is also a matter of that model's examination.
    """
    if _identity(examination.spec, _EXAMINED) == _identity(record.spec, _EXAMINED):
        return True
    undefended = examination.spec.get("defense") is None
    crafted = record.labels.get("family") == "attack" and record.labels.get("access") == "transfer"
    same = _identity(examination.spec, ("model", "data")) == _identity(record.spec, ("model", "data"))
    return undefended and crafted and same


def concerns(name: str, record: Record, *, scored: bool = True) -> bool:
    """Whether a check of this name, found on a model, says something about a number of it.

    ``scored``: on the model that the number is of, not the one that its attack was crafted on. What checks say of
    gradients concerns attacks that follow them, and of a defended model not those that are crafted without it.
    """
    if name in ABOUT_ANSWERS or record.labels.get("family") != "attack":
        return name in ABOUT_ANSWERS
    if scored and record.labels["access"] == "transfer":
        return name not in ABOUT_GRADIENTS
    return name not in ABOUT_GRADIENTS or _kind_of(str(record.labels["perturbation"])) != "baseline"


def monotone_in_eps(records: Sequence[Record]) -> Found:
    """Fail where an attack breaks clearly fewer images at a radius than at a smaller one."""
    series: dict[str, list[_Attack]] = defaultdict(list)
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
        if _kind(baseline) != "baseline":
            continue
        name, norm = baseline.labels["perturbation"], baseline.labels["norm"]
        for eps in _radii(baseline):
            seen = [
                record
                for record in records
                if _kind(record) == "white"
                and record.labels["access"] != "transfer"
                and record.labels["norm"] == norm
                and any(_same_radius(radius, eps) for radius in _radii(record))
            ]
            if not seen:
                continue
            union = _union([_broken(record, eps) for record in seen])
            compared = _alone(union, _broken(baseline, eps))
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
    attacks = [_Attack.of(record) for record in records if _kind(record) != "baseline" and _fixed(record)]
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
    through = [record for record in through if _kind(record) != "baseline"]
    for record in records:
        norm, eps = record.labels["norm"], record.labels["eps"]
        if record.labels["access"] != "transfer" or record.labels["defense"] == "none" or eps is None:
            continue
        same_norm = [other.labels["eps"] for other in through if other.labels["norm"] == norm]
        missing = not any(_near(eps, other) for other in same_norm)
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
    strong = [record for record in asked if record.labels["access"] != "transfer" and not _weak(record)]
    for record in asked:
        if record.labels["access"] == "transfer":
            continue
        alone = [
            eps
            for eps in _radii(record)
            if not any(
                other.labels["norm"] == record.labels["norm"]
                # the smallest perturbations tell of every radius
                and (other.labels["eps"] is None or _same_radius(eps, other.labels["eps"]))
                for other in strong
            )
        ]
        yield (
            record.key,
            Check(
                "strong_enough",
                "warn" if alone and _weak(record) else "ok",
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
        if _kind(record) != "white" or record.labels["access"] == "transfer" or _one_step_by_name(record):
            continue
        if getattr(find("attack", name), "unbounded", False):
            continue
        checks = [
            check
            for eps in _radii(record)
            if (check := behind_examinations(_broken(record, eps), examinations, record.labels["norm"], eps))
        ]
        if checks:
            yield record.key, max(checks, key=lambda check: (_VERDICTS.index(check.verdict), check.figure))


def behind_examinations(
    broken: pd.Series[bool], examinations: Iterable[Record], norm: str, eps: float
) -> Check | None:
    """Return whether attacks that broke these images, by index, within ``eps`` keep up with examinations of the model.

    ``None`` where none looked at the same images in this norm and at no larger radius. *Clearly* more images left
    standing is McNemar's exact test; it fails where they are beyond doubt more than 5 points.
    """
    found: list[tuple[int, float]] = []
    for examination in examinations:
        params, rows = _params(examination), examination.rows.set_index("index")
        if params.get("norm") != norm or "broken_at" not in rows:
            continue
        probed = rows["broken_at"] <= eps + ROUNDING
        if params["eps"] > eps + ROUNDING and not probed.any():
            continue  # a smaller ball in which nobody has looked
        ours, theirs = broken.align(probed, join="inner")
        if len(ours):
            compared = _compared(ours, theirs)
            many = bool(binom.sf(round(compared.figure * len(ours)) - 1, len(ours), GAP) < LEVEL)
            found.append((compared.clear * (1 + many), compared.figure))
    if not found:
        return None
    verdict, figure = max(found)
    return Check(
        "beats_examination",
        _VERDICTS[verdict],
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


class _Attack(NamedTuple):
    """A record of an attack with a radius, as it is compared."""

    key: str
    name: str
    access: str
    norm: str
    eps: float
    setting: str
    """Name and parameters but the radius."""
    single_step: bool
    """Whether the attack goes one step only."""
    broken: pd.Series[bool]

    @classmethod
    def of(cls, record: Record) -> _Attack:
        labels = record.labels
        described = record.spec.get("perturbation")
        version = described.get("version") if isinstance(described, dict) else None
        rest = {name: value for name, value in _params(record).items() if name != "eps"}
        draws = record.spec.get("gradient_draws")
        setting = json.dumps([labels["perturbation"], labels["norm"], rest, version, draws], sort_keys=True)
        eps = float(labels["eps"])
        return cls(
            record.key,
            str(labels["perturbation"]),
            labels["access"],
            labels["norm"],
            eps,
            setting,
            _single_step(record),
            _broken(record, eps),
        )

    def at(self, other: _Attack) -> bool:
        """Whether both stay in the same ball."""
        return self.norm == other.norm and _same_radius(self.eps, other.eps)


def _optimising(records: Sequence[Record]) -> list[_Attack]:
    """Return the attacks within a radius that look for errors of the very model that is scored."""
    return [
        _Attack.of(record)
        for record in records
        if _fixed(record)
        and record.labels["access"] != "transfer"
        and not _made_elsewhere(str(record.labels["perturbation"]))
    ]


def _fixed(record: Record) -> bool:
    """Whether an attack has a radius, which angles are not, and does not look for one class."""
    radius = record.labels["eps"] is not None and record.labels["norm"] != "spatial"
    return radius and _params(record).get("target") is None


def _kind(record: Record) -> _Kind:
    """Return what an attack may see; ``unknown`` for one whose library or module is not there, or whose angles compare
    with no radius.
    """
    if _params(record).get("target") is not None or record.labels["norm"] == "spatial":
        return "unknown"
    return _kind_of(str(record.labels["perturbation"]))


@lru_cache(maxsize=256)
def _kind_of(name: str) -> _Kind:
    if _made_elsewhere(name):
        return "baseline"
    try:
        method = find("attack", name)
    except Exception:
        # of a library that is not installed, or of a module that nobody imported
        return "unknown"
    return "baseline" if method.baseline or not method.gradients else "white"


def _single_step(record: Record) -> bool:
    """Whether an attack goes one step only: by its number of steps, by its name where it states none."""
    steps = _params(record).get("steps")
    if isinstance(steps, int):
        return steps <= 1 and record.labels["eps"] is not None
    return _one_step_by_name(record)


def _one_step_by_name(record: Record) -> bool:
    """Whether an attack is a method of one step, not one of many that was given a single one."""
    steps, name = _params(record).get("steps", 1), str(record.labels["perturbation"]).lower()
    return steps == 1 and any(word in name for word in _SINGLE_STEP)


def _weak(record: Record) -> bool:
    """Whether an attack that leaves an image standing says little about it; one that nobody knows is not accused."""
    name, params = str(record.labels["perturbation"]), _params(record)
    if _made_elsewhere(name) or _single_step(record):
        return True
    asked = [params[word] for word in _BUDGETS if isinstance(params.get(word), int)]
    return _kind_of(name) == "baseline" and max(asked, default=0) < FEW_QUERIES


def _made_elsewhere(name: str) -> bool:
    return name == "noise" or name.startswith("transfer:")


def _params(record: Record) -> dict[str, Any]:
    return dict(record.labels.get("params") or {})


def _radii(record: Record) -> list[float]:
    """Return the radii an attack was scored at."""
    if record.labels["eps"] is not None:
        return [float(record.labels["eps"])]
    return [m.eps for m in record.summary if m.metric == "accuracy" and m.eps is not None]


def _broken(record: Record, eps: float) -> pd.Series[bool]:
    """Return which images are misclassified, within ``eps`` for an attack that looks for the smallest perturbation."""
    rows = record.rows.set_index("index")
    score = rows["score"] if record.labels["eps"] is not None else score_within(rows, eps)
    return score < 0.5


def _union(broken: Sequence[pd.Series[bool]]) -> pd.Series[bool]:
    together = pd.concat(list(broken), axis=1, join="inner")
    return together.any(axis=1)


def _compared(stronger: pd.Series[bool], weaker: pd.Series[bool]) -> _Compared:
    """Compare two attacks by McNemar's exact test, one-sided."""
    stronger, weaker = stronger.align(weaker, join="inner")
    more, fewer = int((weaker & ~stronger).sum()), int((stronger & ~weaker).sum())
    clear = bool(binom.sf(more - 1, more + fewer, 0.5) < LEVEL)
    return _Compared(max(0, more - fewer) / max(len(stronger), 1), clear)


def _alone(union: pd.Series[bool], baseline: pd.Series[bool]) -> _Compared:
    """Count what only a baseline breaks, and test whether it is more than the tolerance."""
    union, baseline = union.align(baseline, join="inner")
    alone, n = int((baseline & ~union).sum()), len(union)
    return _Compared(alone / max(n, 1), bool(binom.sf(alone - 1, n, TOLERANCE) < LEVEL))


def _worst(
    name: str, verdict: Literal["warn", "fail"], comparisons: Sequence[_Compared], advice: str
) -> Check:
    """Return one check of several comparisons: the clear ones decide, the largest figure of them is shown."""
    clear, figure = max((compared.clear, compared.figure) for compared in comparisons)
    return Check(name, verdict if clear else "ok", figure, advice)


def _same_radius(one: float, other: float) -> bool:
    # the same radius may come from two computations that differ in the last bit
    return f"{one:.6g}" == f"{other:.6g}"


def _near(eps: float, other: float | None) -> bool:
    """Whether an attack at ``other`` says something about one at ``eps``; the smallest perturbation always does."""
    if other is None:
        return True
    return other <= eps * COMPARABLE * (1 + 1e-6) and eps <= other * COMPARABLE * (1 + 1e-6)


def _identity(spec: dict[str, Any], parts: Sequence[str]) -> str:
    return json.dumps([spec.get(part) for part in parts], sort_keys=True, default=str)
