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

Left out, as they may be weaker without anything being wrong: points made for another model (access transfer, and the
baselines ``transfer:...``), single steps at several radii (a long step overshoots), attacks towards a target class.
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
    "across",
    "adaptive_beats_transfer",
    "attacked_adaptively",
    "beats_baselines",
    "beats_single_step",
    "examines",
    "monotone_in_eps",
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

LEVEL = 0.01
"""Of the exact tests."""
TOLERANCE = 0.005
"""Share of the images that a baseline may break alone."""
COMPARABLE = 2.0
"""Radii that differ by this factor at most say something about each other."""

_ITERATIVE = ("bim", "mim", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "auto_attack")
_SINGLE_STEP = ("fgsm", "fastgradient")
_SAME = ("model", "data", "defense", "pool", "seed", "draws")

Found = Iterator[tuple[str, Check]]
"""Keys of records, each with a check of it."""
_Kind = Literal["white", "baseline", "unknown"]


def across(records: Iterable[Record]) -> dict[str, list[Check]]:
    """Return the further checks of finished records by key; those of other models, data or seeds are kept apart.

    A comparison that was made and found nothing is a check that passed; one without a partner is none.
    """
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
        ):
            for key, check in look(group):
                found[key].append(check)
    return dict(found)


def examines(examination: Record, record: Record) -> bool:
    """Whether a model was examined as the one that a record is about: same weights, data and defense.

    What was crafted on the undefended model (access transfer) is also a matter of that model's examination.
    """
    parts = ("model", "data", "defense", "pool")
    if _identity(examination.spec, parts) == _identity(record.spec, parts):
        return True
    undefended = examination.spec.get("defense") is None
    crafted = record.labels.get("family") == "attack" and record.labels.get("access") == "transfer"
    same = _identity(examination.spec, ("model", "data")) == _identity(record.spec, ("model", "data"))
    return undefended and crafted and same


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
            _broken(record, eps),
        )

    @property
    def single_step(self) -> bool:
        """Whether the attack goes one step only."""
        return any(word in self.name.lower() for word in _SINGLE_STEP)

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
    """Whether an attack has a radius and does not look for one class."""
    return record.labels["eps"] is not None and _params(record).get("target") is None


def _kind(record: Record) -> _Kind:
    """Return what an attack may see; ``unknown`` for one whose library or module is not there."""
    if _params(record).get("target") is not None:
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
