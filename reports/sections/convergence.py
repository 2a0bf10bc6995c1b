"""How attacks converge: the share of images that are still right after each step.

A record says at which step each image was first broken, so a curve ends at the number of the table. Ours: left out are
attacks of one step, those that another library ran and that tell no steps, those by transfer and those on a model that
draws, where each image takes all steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import charts
from reports.charts.convergence import convergence
from reports.charts.foremost import foremost, sparser
from reports.charts.look import LINES
from reports.frames import subject
from reports.section import Section, Source
from robust_eval.results.attacked import made_elsewhere
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import is_estimate
from robust_eval.threat import threat_text

__all__ = ["after_each_step", "sections"]

PANELS = 9
"""Attacks that are drawn."""
_POINTS, _MARKS = 40, 6
"""Of a curve, about."""
_COLUMNS = ["panel", "series", "step", "accuracy", "marked", "told"]
CAPTION = (
    "Accuracy after each step of an attack, at its largest radius; a curve that still falls at its end asks for more "
    "steps"
)


def sections(source: Source) -> Iterator[Section]:
    """Yield the drawing, if an attack of several steps was run."""
    frame = after_each_step(source.entries)
    panels = list(dict.fromkeys(frame["panel"]))
    caption = CAPTION
    if len(panels) > PANELS:
        caption += f": {PANELS} of {len(panels)} attacks"
        frame = frame[frame["panel"].isin(panels[:PANELS])]
    if (several := frame["series"].nunique()) > LINES:
        caption += f"; in colour are the {LINES} of {several} with the highest mean"
    frame = sparser(foremost(frame, LINES), "panel", "series")
    chart = charts.figure("convergence", caption, convergence, frame, wide=len(panels) > 1)
    if chart is not None:
        yield Section("", chart)


def after_each_step(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return what :func:`reports.charts.convergence.convergence` draws, but for ``shown``: the mean over seeds."""
    several = len({entry.labels["data"] for entry in entries}) > 1
    found: dict[tuple[str, str], dict[float, dict[str, list[Entry]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for entry in entries:
        labels = entry.labels
        if _tells_steps(entry):
            model = f"{labels['model']} ({labels['data']})" if several else str(labels["model"])
            attack = (str(labels["perturbation"]), str(labels["norm"]))
            found[attack][float(labels["eps"])][subject(model, str(labels["defense"]))].append(entry)
    rows: list[dict[str, Any]] = []
    for (name, norm), by_radius in sorted(found.items()):
        eps = max(by_radius)
        panel = f"{name} {threat_text(norm, eps)}"
        for number, (series, same) in enumerate(by_radius[eps].items()):
            rows += _curve(panel, series, same, number)
    return pd.DataFrame(rows, columns=_COLUMNS)


def _tells_steps(entry: Entry) -> bool:
    """Whether a record's steps are those at which its images were broken."""
    labels, rows = entry.labels, entry.record.rows
    if is_estimate(entry.record):  # a curve is of all images
        return False
    if labels["family"] != "attack" or labels["eps"] is None or labels["access"] == "transfer":
        return False
    if not {"step", "score", "clean_score"} <= set(rows) or made_elsewhere(
        str(entry.record.labels["perturbation"])
    ):
        return False
    steps, last = rows.loc[rows["step"] >= 0, "step"], _last(entry)
    return last > 1 and bool(len(steps) and steps.max() > 0 and not (steps == last).all())


def _last(entry: Entry) -> int:
    """Return how many steps an attack could take: those of its parameters, or of all restarts that were needed."""
    given = entry.params.get("steps")
    most = int(entry.record.rows["step"].max())
    return max(most, given) if isinstance(given, int) else most


def _curve(panel: str, series: str, same: Sequence[Entry], number: int) -> Iterator[dict[str, Any]]:
    last = max(map(_last, same))
    steps = np.unique(np.concatenate([[0, last], *(e.record.rows["step"].to_numpy(int) for e in same)]))
    steps = _thinned(steps[steps >= 0])
    values = np.mean([_unbroken(entry, steps) for entry in same], axis=0)
    every = max(1, len(steps) // _MARKS)
    for i, (step, value) in enumerate(zip(steps, values, strict=True)):
        marked = i == len(steps) - 1 or (i + number) % every == 0
        yield {
            "panel": panel,
            "series": series,
            "step": int(step),
            "accuracy": round(100 * float(value), 3),
            "marked": marked,
            "told": f"{series}; {panel}, step {step}: {100 * value:.1f} %" if marked else "",
        }


def _unbroken(entry: Entry, steps: NDArray[Any]) -> NDArray[Any]:
    """Return the accuracy after each step: an image counts with its clean score until it is broken."""
    rows = entry.record.rows
    broken_at, score, clean = (rows[name].to_numpy(float) for name in ("step", "score", "clean_score"))
    # whom the attack did not break keeps what was measured in the end, which a few draws may have missed
    until = np.where(broken_at < 0, score, clean)
    return np.array([np.where((broken_at >= 0) & (broken_at <= step), score, until).mean() for step in steps])


def _thinned(steps: NDArray[Any]) -> NDArray[Any]:
    places = np.linspace(0, len(steps) - 1, min(len(steps), _POINTS)).round().astype(int)
    return np.asarray(steps[np.unique(places)])
