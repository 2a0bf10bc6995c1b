"""Accuracy against the radius: the share of images that are still right when an attacker may go so far.

An attack that looks for the smallest perturbation gives a whole curve: an image counts as broken from the distance on
at which it was broken, the least over all such attacks of the norm. At a radius that somebody asked for, the point is
the worst case of the tables. Ours: a defended model is drawn where an attack went through its defense, since the
distances by transfer are those of another model; a norm is drawn where it has a curve or two radii.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import charts
from reports.charts.foremost import foremost, sparser
from reports.charts.look import LINES
from reports.charts.radius import radius
from reports.frames import subject
from reports.section import Section, Source
from robust_eval.metrics.intervals import wilson
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import is_estimate
from robust_eval.results.worst_case import Attacked, radii, survivors, within
from robust_eval.threat import bare_norm, threat_text

__all__ = ["against_radius", "sections"]

STEPS = 48
"""Points of a curve; every sixth has a mark."""
_EVERY = 6
_FAR = 0.95
"""Share of the distances found that a drawing shows."""
_TOLERANCE = 1e-6
"""The rounding of distances of float32 pixels, as in :func:`robust_eval.metrics.accuracy.score_within`."""
_COLUMNS = ["norm", "panel", "series", "radius", "accuracy", "low", "high", "kind", "told"]
CAPTION = (
    "Accuracy against radius, worst over the attacks of a norm: curves are of smallest perturbations, points of the "
    "radii that were asked for; bands are 95 % intervals, or over seeds a standard deviation"
)


class Place(NamedTuple):
    """A number before it is drawn."""

    radius: float
    kind: str
    value: float
    n: int


def sections(source: Source) -> Iterator[Section]:
    """Yield the drawing, if a norm has a curve or several radii."""
    frame = against_radius(source.entries)
    caption = CAPTION
    if (several := frame["series"].nunique()) > LINES:
        caption += f"; in colour are the {LINES} of {several} with the highest mean"
    if any(is_estimate(entry.record) for entry in source.entries):
        caption += "; estimates are left out"
    frame, wide = sparser(foremost(frame, LINES), "norm", "series"), frame["panel"].nunique() > 1
    if (chart := charts.figure("radius", caption, radius, frame, wide=wide)) is not None:
        yield Section("", chart)


def against_radius(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return what :func:`reports.charts.radius.radius` draws, but for ``shown``."""
    several = len({entry.labels["data"] for entry in entries}) > 1
    by_norm: dict[str, dict[str, list[list[Attacked]]]] = defaultdict(lambda: defaultdict(list))
    for (model, defense, data, norm, *_), attacks in _groups(entries).items():
        if defense == "none" or any(attack.labels["access"] == "adaptive" for attack in attacks):
            name = subject(f"{model} ({data})" if several else model, defense)
            by_norm[norm][name].append(attacks)
    rows = [row for norm, series in by_norm.items() for row in _panel(norm, series)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _groups(entries: Sequence[Entry]) -> dict[tuple[Any, ...], list[Attacked]]:
    """Return the attacks of each model with each defense, for each norm and each seed."""
    groups: dict[tuple[Any, ...], list[Attacked]] = defaultdict(list)
    for entry in entries:
        labels, rows = entry.labels, entry.record.rows
        if labels["family"] != "attack" or is_estimate(entry.record):  # a curve is of all images
            continue
        if labels["norm"] not in ("none", "spatial") and len(rows):
            fields = ("model", "defense", "data", "norm", "seed", "train_seed")
            groups[tuple(labels[name] for name in fields)].append(
                Attacked(entry.record, labels, entry.checks)
            )
    return groups


def _panel(norm: str, series: Mapping[str, Sequence[list[Attacked]]]) -> Iterator[dict[str, Any]]:
    attacks = [attack for groups in series.values() for group in groups for attack in group]
    asked, nearest = radii(attacks), [_distances(attack) for attack in attacks if _is_minimal(attack)]
    if not nearest and len(asked) < 2:
        return
    found = np.concatenate(nearest) if nearest else np.zeros(0)
    top = max([1.05 * max(asked, default=0.0), *([float(np.quantile(found, _FAR))] if len(found) else [])])
    grid = np.linspace(0, top, STEPS + 1)
    for i, (name, groups) in enumerate(series.items()):
        places: dict[tuple[float, str], list[Place]] = defaultdict(list)
        for group in groups:
            for place in (*_curve(group, grid, i), *_points(group)):
                places[place.radius, place.kind].append(place)
        for (at, kind), same in places.items():
            yield _row(norm, name, at, kind, same)


def _is_minimal(attack: Attacked) -> bool:
    """Whether an attack looks for the smallest perturbation."""
    return attack.labels["eps"] is None and {"distance", "score", "clean_score"} <= set(attack.record.rows)


def _distances(attack: Attacked) -> NDArray[Any]:
    rows = attack.record.rows
    broken = (rows["score"] < 0.5) & (rows["clean_score"] >= 0.5) & np.isfinite(rows["distance"])
    return np.asarray(rows.loc[broken, "distance"], dtype=float)


def _curve(group: Sequence[Attacked], grid: NDArray[Any], number: int) -> Iterator[Place]:
    """Yield the share of images still right at each radius of a grid; without such attacks, the clean images alone."""
    minimal = [attack.record.rows.set_index("index") for attack in group if _is_minimal(attack)]
    if not minimal:
        tables = [attack.record.rows.set_index("index")["clean_score"] for attack in group]
        clean_scores = pd.concat(tables, axis=1, join="inner").min(axis=1)
        yield Place(0.0, "marked", float(clean_scores.mean()), len(clean_scores))
        return
    index = minimal[0].index
    for other in minimal[1:]:
        index = index.intersection(other.index)
    columns = [rows.loc[index, ["distance", "score", "clean_score"]].to_numpy(float).T for rows in minimal]
    for step, at in enumerate(grid):
        scores = [np.where(far <= at + _TOLERANCE, score, clean) for far, score, clean in columns]
        kind = "marked" if step and (step + number) % _EVERY == 0 else "curve"
        yield Place(float(at), kind, float(np.min(scores, axis=0).mean()), len(index))


def _points(group: list[Attacked]) -> Iterator[Place]:
    """Yield the worst case at each radius that was asked for: parts of a line where there is no curve."""
    kind = "point" if any(map(_is_minimal, group)) else "marked"
    for eps in radii(group):
        scores = survivors(within(group, eps), eps)
        if len(scores):
            yield Place(eps, kind, float(scores.mean()), len(scores))


def _row(norm: str, name: str, at: float, kind: str, same: Sequence[Place]) -> dict[str, Any]:
    value, n = statistics.fmean(place.value for place in same), same[0].n
    low, high = wilson(value * n, n)
    if len(same) > 1:
        spread = statistics.stdev(place.value for place in same)
        low, high = value - spread, value + spread
    bare = bare_norm(norm)
    scale = 255 if bare == "linf" else 1
    unit = {"linf": "1/255", "l0": "pixels"}.get(bare, "units of the [0, 1] pixel range")
    told = f"{name}; {threat_text(norm, at)}: {100 * value:.1f} % ({100 * low:.1f}–{100 * high:.1f}), n = {n}"
    return {
        "norm": norm,
        "panel": f"{norm}, in {unit}",
        "series": name,
        "radius": round(scale * at, 6),
        "accuracy": round(100 * value, 3),
        "low": round(100 * max(low, 0.0), 3),
        "high": round(100 * min(high, 1.0), 3),
        "kind": kind,
        "told": "" if kind == "curve" else told,
    }
