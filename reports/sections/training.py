"""How the models were trained: what each pass brought, what it cost, and which images were trained on."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from reports import charts
from reports.bodies import Chart, Grid
from reports.charts.foremost import foremost, sparser
from reports.charts.look import LINES
from reports.charts.training import training
from reports.section import Section, Source
from reports.tables import MISSING
from robust_eval.results.entry import Entry

__all__ = ["drops", "sections"]

NOTE = (
    "Accuracies in %, {of}. Mean: over all passes, so that what is learnt early counts. Drops: the sum of all falls "
    "from one pass to the next, 0 for a curve that only rises. {paired}Network evaluations count images through the "
    "network, a forward pass alone for a third. Used: share of the training images that were ever chosen. Chosen per "
    "class: how many images of the least and of the most chosen class were trained on, each as often as it was.{wrong} "
    "A pass is as many network evaluations, or with a budget of steps as many images, as there are training images; "
    "the last may be shorter. ± is the standard deviation over seeds of training."
)
LEAK = " Test images decided what {models} trained on: a leak, so that the accuracy on them is no estimate."
UNEQUAL = " Models spent different numbers of evaluations: differences are those of choice and cost together."
PAIRED = "Against {model}: the difference of the means, seed by seed. "
WRONG = " Wrong labels: their share of the images chosen in all passes, and of their weight, with noise on the labels."
SETS = {"train_accuracy": "training", "validation_accuracy": "validation", "test_accuracy": "test"}

Passes = Mapping[str, Any]


def sections(source: Source) -> Iterator[Section]:
    """Yield a table and the curves of the models trained here, if there are any.

    Trainings that differ in their seed alone share a line.
    """
    trained = _trained(source)
    if not trained:
        return
    watched = all("test_accuracy" in passes for own in trained.values() for passes in own.values())
    of = "test_accuracy" if watched else "validation_accuracy"
    if not all(of in passes for own in trained.values() for passes in own.values()):
        of = "train_accuracy"
    reference = _reference(trained)
    wrong = any("wrong_chosen" in passes for own in trained.values() for passes in own.values())
    several = len({data for _, data in trained}) > 1
    heads = (
        "model",
        *(["data"] if several else []),
        "curriculum",
        "steps",
        "evaluations",
        "last",
        "mean",
        "drops",
        *([f"mean, against {reference[0]}"] if reference else []),
        "used",
        "chosen per class",
        *(["wrong labels", "their weight"] if wrong else []),
    )
    rows = tuple(
        (*(place if several else place[:1]), *_row(own, of, reference and trained[reference], wrong))
        for place, own in trained.items()
    )
    note = NOTE.format(
        of=f"those on {SETS[of]} images",
        paired=PAIRED.format(model=reference[0]) if reference else "",
        wrong=WRONG if wrong else "",
    )
    if leaks := _leaking(source):
        note += LEAK.format(models=", ".join(leaks))
    spent = [each["evaluations"][-1] for own in trained.values() for each in own.values()]
    if reference and max(spent) > 1.1 * min(spent):
        note += UNEQUAL
    # with a curriculum it is a result, without one a detail
    folded = reference is None and not wrong
    yield Section("Training", Grid(heads, rows, 2 + several), note, folded=folded)
    if (chart := _drawing(trained)) is not None:
        yield Section("", chart, folded=folded)


Place = tuple[str, str]
"""Model and data."""


def _trained(source: Source) -> dict[Place, dict[int, Passes]]:
    """Return what each training tells of its passes, by its seed."""
    found: dict[Place, dict[int, Passes]] = defaultdict(dict)
    for entry in source.entries:
        labels = entry.labels
        passes = (entry.record.provenance.get("training") or {}).get("passes")
        if (
            labels["family"] == "clean"
            and labels["defense"] == "none"
            and passes
            and len(passes["steps"]) > 1
        ):
            # one training measured in several runs is one
            place = (str(labels["model"]), str(labels["data"]))
            found[place].setdefault(_seed(entry), passes)
    return dict(found)


def _leaking(source: Source) -> list[str]:
    """Return the models whose test images chose what they were trained on."""
    found = [
        str(e.labels["model"])
        for e in source.entries
        if (e.record.provenance.get("training") or {}).get("leak")
    ]
    return list(dict.fromkeys(found))


def _seed(entry: Entry) -> int:
    seed = entry.labels["train_seed"]
    return -1 if seed is None else int(seed)


def _reference(trained: Mapping[Place, Mapping[int, Passes]]) -> Place | None:
    """Return the first model without a curriculum, if there are others with one."""
    plain = {
        place: all(p["curriculum"] == "shuffled" for p in own.values()) for place, own in trained.items()
    }
    return (
        next((place for place, is_plain in plain.items() if is_plain), None)
        if not all(plain.values())
        else None
    )


def _row(
    own: Mapping[int, Passes], of: str, reference: Mapping[int, Passes] | None, wrong: bool
) -> tuple[str, ...]:
    passes = list(own.values())
    curves = [each[of] for each in passes]
    cells = [
        passes[0]["curriculum"],
        _count([each["steps"][-1] for each in passes]),
        _count([each["evaluations"][-1] for each in passes]),
        _percent([curve[-1] for curve in curves]),
        _percent([statistics.fmean(curve) for curve in curves]),
        _percent([drops(curve) for curve in curves]),
    ]
    if reference is not None:
        same = [seed for seed in own if seed in reference]
        apart = [statistics.fmean(own[seed][of]) - statistics.fmean(reference[seed][of]) for seed in same]
        cells.append(MISSING if reference is own or not apart else _percent(apart, signed=True))
    cells += [_percent([each["used"][-1] for each in passes]), _chosen(passes)]
    if wrong:
        cells += [
            _percent([statistics.fmean(each[name]) for each in passes if name in each]) for name in _WRONG
        ]
    return tuple(cells)


_WRONG = ("wrong_chosen", "wrong_weight")


def drops(curve: Sequence[float]) -> float:
    """Return the sum of all falls between neighbours."""
    return sum(max(before - after, 0.0) for before, after in pairwise(curve))


def _chosen(passes: Sequence[Passes]) -> str:
    """Return how often the images of the least and of the most chosen class were trained on."""
    low, high = ([pick(each["chosen_by_class"]) for each in passes] for pick in (min, max))
    return " to ".join(f"{round(statistics.fmean(counts)):,}" for counts in (low, high))


def _count(values: Sequence[int]) -> str:
    return f"{round(statistics.fmean(values)):,}"


def _percent(values: Sequence[float], *, signed: bool = False) -> str:
    if not values:
        return MISSING
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):{'+' if signed else ''}.1f}{spread}"


def _drawing(trained: Mapping[Place, Mapping[int, Passes]]) -> Chart | None:
    means = _means(trained)
    caption = (
        "Accuracy after each pass, mean over the seeds, in a band of a standard deviation to either side"
    )
    if (several := means["series"].nunique()) > LINES:
        caption += f"; in colour are the {LINES} of {several} with the highest mean"
    sets = means["set"].nunique()
    return charts.figure(
        "training", caption, training, sparser(foremost(means, LINES), "set", "series"), wide=sets > 1
    )


def _means(trained: Mapping[Place, Mapping[int, Passes]]) -> pd.DataFrame:
    """Return the accuracy of each model after each pass on each set of images, in %, over its seeds."""
    several = len({data for _, data in trained}) > 1
    rows = [
        {
            "series": f"{model} ({data})" if several else model,
            "set": words,
            "pass": i,
            "accuracy": 100 * value,
        }
        for (model, data), own in trained.items()
        for passes in own.values()
        for name, words in SETS.items()
        for i, value in enumerate(passes.get(name, []), start=1)
        if value is not None
    ]
    points = pd.DataFrame(rows, columns=["series", "set", "pass", "accuracy"])
    found = (
        points.groupby(["series", "set", "pass"], sort=False)["accuracy"].agg(["mean", "std"]).reset_index()
    )
    spread = found.pop("std").fillna(0)
    told = [
        f"{series}; {words}, pass {number}: {mean:.1f} %"
        for series, words, number, mean in found.itertuples(index=False)
    ]
    return found.rename(columns={"mean": "accuracy"}).assign(
        low=found["mean"] - spread, high=found["mean"] + spread, told=told
    )
