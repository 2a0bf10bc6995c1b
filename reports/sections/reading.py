"""How to read the accuracies under attack."""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Legend
from reports.section import Section, Source

__all__ = ["sections"]

ALWAYS = (
    "Robust accuracy is the share of all images that are classified correctly when clean and still are after "
    "the attack.",
    "Intervals are Wilson's at 95 %; for a mean over corruptions, or over seeds of training, there is none.",
    "The worst case counts an image as robust only if it survives every attack of that norm and radius; it "
    "carries the doubts of all of them; whether it beats the examination is asked of itself.",
    "An attack with a radius had to stay inside it. One that looks for the smallest perturbation is scored "
    "at a radius by the distances it found.",
    "Passes per image are forward passes + gradients, on average for an image that was attacked.",
)
DEFENDED = (
    "A defended model is attacked twice: transfer (crafted on the undefended model) and adaptive (through "
    "the defense). The access any is the worst over both, the number to quote."
)
ONCE = (
    "A mean over corruptions counts a type once at each severity: where it was both made and read from files (files=), "
    "the files count, and of several folders the first by name."
)


def sections(source: Source) -> Iterator[Section]:
    """Yield the sentences that concern these records."""
    defended = any(entry.labels["defense"] != "none" for entry in source.entries)
    texts = (*ALWAYS, *([DEFENDED] if defended else []), *([ONCE] if source.table.counted_once else []))
    yield Section("How to read this", Legend(texts))
