"""Whether an attack was one that finds errors at all: more than noise, one step or a few queries, and not in vain."""

from __future__ import annotations

from collections.abc import Sequence

from robust_eval.checks.card import check
from robust_eval.findings import Check
from robust_eval.results.attacked import kind_of, radii_of, same_radius, weak, why_unknown
from robust_eval.results.comparisons.group import Found, Group
from robust_eval.results.record import Record
from robust_eval.threat import DEFAULT_RADIUS, bare_norm

__all__ = ["finds_most", "strong_enough"]

WEAK = (
    "only weak attacks were run at this radius (noise, a single step, a black box with few queries): the "
    "accuracy under attack is lower"
)


@check(words="weak attacks alone at this radius", unit="count", across=60)
def strong_enough(group: Group) -> Found:
    """Warn about numbers at a radius where only weak attacks were run: noise, one step, a few queries, other models.

    Attacks by transfer are warned about already (``attacked_adaptively``), and make no number of others stronger. One
    that is not known here is not accused, nor are those beside it; where it stands alone, nothing is known.
    """
    asked = [record for record in group.records if bare_norm(record.labels["norm"]) in DEFAULT_RADIUS]
    strong = [record for record in asked if record.labels["access"] != "transfer" and not weak(record)]
    known = [record for record in strong if kind_of(str(record.labels["perturbation"])) != "unknown"]
    for record in asked:
        if record.labels["access"] == "transfer":
            continue
        name = str(record.labels["perturbation"])
        if kind_of(name) == "unknown" and not weak(record) and _without(known, record):
            yield record.key, Check.not_made("strong_enough", why_unknown(name))
            continue
        alone = _without(strong, record)
        yield (
            record.key,
            Check(
                "strong_enough",
                "warn" if alone and weak(record) else "ok",
                float(len(alone)),
                f"{WEAK}; run square or hop_skip_jump with thousands of queries"
                if record.provenance.get("black_box")
                else f"{WEAK}; run pgd, apgd_ce or auto_attack as well",
            ),
        )


def _without(strong: Sequence[Record], record: Record) -> list[float]:
    """Return the radii of an attack at which none of these was run in its norm."""
    return [
        eps
        for eps in radii_of(record)
        if not any(
            other.labels["norm"] == record.labels["norm"]
            # the smallest perturbations tell of every radius
            and (other.labels["eps"] is None or same_radius(eps, other.labels["eps"]))
            for other in strong
        )
    ]


@check(words="attacked images for which nothing was found", unit="share", across=70)
def finds_most(group: Group) -> Found:
    """Warn where an attack that looks for the smallest perturbation found none for most of the images.

    Those by transfer are warned about already (``minimal_transfer``).
    """
    for record in group.records:
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
