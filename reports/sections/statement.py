"""What was measured, and against whom: the threat that the numbers are about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from reports.comparison import threats
from reports.section import Source
from robust_eval.results.entry import Entry

__all__ = ["images", "statement"]

_NAMED = 3
"""Black boxes that are named; of more the number is told."""


def statement(source: Source) -> Iterator[str]:
    """Yield its sentences."""
    results = source.results
    sizes = sorted({entry.record.spec.get("data", {}).get("n") or images(entry) for entry in source.entries})
    if not sizes:
        yield "Nothing was measured."
        return
    n = f"{sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
    models = len(set(results["model"]))
    data = ", ".join(sorted(set(results["data"])))
    yield f"{n} images of {data}; {models} {'model' if models == 1 else 'models'}."
    if _once(results):
        yield "Each model was trained once: what another seed of training would change is in no interval."
    adversary = threats(results)
    if not adversary:
        yield "No attack was run: these numbers say nothing about an adversary."
        return
    counted = [norm for norm in adversary if norm.startswith("l0 ")]
    units = "" if len(counted) == len(adversary) else ", in units of the [0, 1] pixel range"
    yield f"The adversary {_knows(source.entries)}, and change an image by {' or '.join(adversary)}{units}."


def _once(results: pd.DataFrame) -> bool:
    """Return whether several recipes are compared, each by a single training."""
    trained = results[results["train_seed"].notna()].groupby("model")["train_seed"].nunique()
    return len(trained) > 1 and bool((trained == 1).all())


def _knows(entries: Iterable[Entry]) -> str:
    """Return what the adversary may use of the models that were attacked: of a black box its answers alone."""
    attacked = [entry for entry in entries if entry.labels["family"] == "attack"]
    asked = {e.labels["model"] for e in attacked if e.record.provenance.get("black_box") is True}
    seen = {entry.labels["model"] for entry in attacked} - asked
    if not asked:
        return "may use the model's weights and gradients and the true label"
    if not seen:
        return "may use the model's answers alone (a black box: queries, no weights, no gradients) and the true label"
    few = ", ".join(sorted(map(str, asked))) if len(asked) <= _NAMED else f"{len(asked)} of the models"
    return f"may use a model's weights and gradients (black box, answers alone: {few}) and the true label"


def images(entry: Entry) -> int:
    """Return on how many images a record's numbers are."""
    return max((measurement.n for measurement in entry.record.summary), default=0)
