"""Whether an attack leaves images standing that the few probes of an examination broke."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from robust_eval.checks.card import check
from robust_eval.findings import VERDICTS, Check
from robust_eval.metrics.exact_tests import above
from robust_eval.results.attacked import (
    broken,
    kind,
    method_of,
    one_step_method,
    params_of,
    radii_of,
    why_unknown,
)
from robust_eval.results.comparisons.group import Found, Group, compared
from robust_eval.results.record import Record
from robust_eval.threat import bare_norm

__all__ = ["beats_examination", "behind_examinations"]

GAP = 0.05
"""Share of the images that an attack may leave standing of those that an examination broke before it fails."""
ROUNDING = 1e-6
"""Of distances in float32."""


@check(words="images broken by the examination but not by the attack", unit="share", across=80)
def beats_examination(group: Group) -> Found:
    """Warn where an attack leaves standing what the probes of an examination broke, fail where it is many.

    An examination's own attacks are few and short, and go on record image by image (``broken_at``). An attack with
    gradients that is worth quoting breaks about as many of the same images within the same radius. Left out are attacks
    that need not (noise, one step, black boxes, other models' points, a target class): :func:`strong_enough` is for
    those.
    """
    for record in group.records:
        name, of = str(record.labels["perturbation"]), kind(record)
        if of not in ("white", "unknown") or record.labels["access"] == "transfer" or one_step_method(record):
            continue
        if getattr(method_of(name), "unbounded", False):
            continue
        checks = [
            check
            for eps in radii_of(record)
            if (
                check := behind_examinations(
                    broken(record, eps), group.examinations, record.labels["norm"], eps
                )
            )
        ]
        if checks and of == "unknown":
            yield record.key, Check.not_made("beats_examination", why_unknown(name))
        elif checks:
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
        # whose mask is the attack's, as examinations are chosen
        if params.get("norm") != bare_norm(norm) or "broken_at" not in rows:
            continue
        probed = rows["broken_at"] <= eps + ROUNDING
        if params["eps"] > eps + ROUNDING and not probed.any():
            continue  # a smaller ball in which nobody has looked
        ours, theirs = broken.align(probed, join="inner")
        if len(ours):
            gap = compared(ours, theirs)
            many = above(round(gap.figure * len(ours)), len(ours), GAP)
            found.append((gap.clear * (1 + many), gap.figure))
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
