"""What was measured, and against whom: the threat that the numbers are about."""

from __future__ import annotations

from collections.abc import Iterator

from reports.comparison import threats
from reports.section import Source
from robust_eval.results.entry import Entry

__all__ = ["images", "statement"]


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
    adversary = threats(results)
    if not adversary:
        yield "No attack was run: these numbers say nothing about an adversary."
        return
    yield (
        "The adversary may use the model's weights and gradients and the true label, and change an image by "
        f"{' or '.join(adversary)}, in units of the [0, 1] pixel range."
    )


def images(entry: Entry) -> int:
    """Return on how many images a record's numbers are."""
    return max((measurement.n for measurement in entry.record.summary), default=0)
