"""Runs beside one another: what they share with its difference, what cannot be compared and why, what one alone has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from reports.bodies import Grid, Listing, Paragraphs
from reports.paired import LEVEL
from reports.runs import Aligned, aligned, text_of
from reports.section import Section, Source
from reports.tables import counted
from robust_eval.results.entry import Entry

__all__ = ["data_sentence", "in_words", "sections"]

TITLE = "Runs beside one another"
HEADS = ("model", "defense", "access", "perturbation")
_ALL_PAIRS = 3
"""Runs that are all set against one another; of more, each against the first."""
_UNFOLDED = 30
_NAMED = 4


def sections(source: Source) -> Iterator[Section]:
    """Yield what each pair of runs shares and does not; nothing where there is one run."""
    runs = source.loaded.runs
    if len(runs) < 2:
        return
    every = len(runs) <= _ALL_PAIRS
    pairs = list(combinations(runs, 2)) if every else [(runs[0], other) for other in runs[1:]]
    beside = [aligned(source.loaded, *pair) for pair in pairs]
    texts = [] if every else [f"Each run beside the first, {runs[0]}."]
    yield Section(TITLE, Paragraphs((*texts, *map(_summary, beside))))
    for pair in beside:
        yield from _compared(pair)
        yield from _apart(pair)


def in_words(contents: Sequence[Section]) -> Iterator[str]:
    """Yield how much the runs of a report share and do not, a line for each pair of them."""
    for section in contents:
        if section.title == TITLE and isinstance(section.body, Paragraphs):
            yield from section.body.texts


def data_sentence(source: Source) -> Iterator[str]:
    """Yield one sentence where the runs were not all measured on the same images."""
    of_run: dict[str, dict[str, None]] = {run: {} for run in source.loaded.runs}
    for entry in source.entries:
        for run in source.loaded.held.get(entry.record.key, ()):
            of_run[run][str(entry.labels["data"])] = None
    if len({frozenset(data) for data in of_run.values()}) < 2:
        return
    told = [f"{run} of {_short(list(data)) or 'none'}" for run, data in of_run.items()]
    listed = "; ".join(told[:_NAMED]) + (f"; {len(told) - _NAMED} more" if len(told) > _NAMED else "")
    yield f"The runs are of different images ({listed}): lines on different images are not compared."


def _summary(pair: Aligned) -> str:
    first, second = pair.runs
    differ = sum(number.difference.p < LEVEL for number in pair.shared)
    parts = []
    if pair.same:
        parts.append(f"{counted(pair.same, 'record')} in both, which count once")
    if pair.shared:
        parts.append(f"{counted(len(pair.shared), 'number')} compared, of which {differ or 'none'} differ")
    if pair.unlike:
        parts.append(f"{counted(len(pair.unlike), 'number')} not comparable")
    for run, own in zip(pair.runs, pair.alone, strict=True):
        if own:
            parts.append(f"{counted(len(own), 'number')} in {run} alone")
    return f"{second} beside {first}: {'; '.join(parts) or 'nothing to compare'}."


def _compared(pair: Aligned) -> Iterator[Section]:
    if not pair.shared:
        return
    first, second = pair.runs
    rows = tuple(
        (
            *(number.model, number.defense, number.access, number.what),
            *(f"{100 * value:.1f}" for value in number.values),
            number.difference.text,
        )
        for number in pair.shared
    )
    note = (
        f"Accuracy in percent, and by how many points {second} is above {first} on the same images: 95 % interval of "
        "the paired difference (Bonett and Price), p by McNemar's exact test or the same interval, corrected for the "
        "number of comparisons (Holm)."
    )
    heads = (*HEADS, first, second, "difference")
    title = f"{second} beside {first}"
    yield Section(title, Grid(heads, rows, len(HEADS)), note, folded=len(rows) > _UNFOLDED)


def _apart(pair: Aligned) -> Iterator[Section]:
    reasons: dict[str, list[Entry]] = defaultdict(list)
    for number in pair.unlike:
        reasons[number.reason].append(number.first)
    groups = [(f"not comparable: {reason}", own) for reason, own in reasons.items()]
    groups += [(f"only in {run}", list(own)) for run, own in zip(pair.runs, pair.alone, strict=True) if own]
    if groups:
        rows = tuple((why, str(len(own)), _which(own)) for why, own in groups)
        yield Section(
            f"Not compared: {pair.runs[1]} beside {pair.runs[0]}",
            Listing(("why", "numbers", "which"), rows, 3),
        )


def _which(entries: Sequence[Entry]) -> str:
    """Return which numbers, model by model, of many the first."""
    of: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        labels = entry.record.labels
        name = str(labels.get("model"))
        of[name if labels.get("defense") == "none" else f"{name} behind {labels.get('defense')}"].append(
            text_of(entry)
        )
    told = [f"{name}: {_short(list(dict.fromkeys(what)))}" for name, what in of.items()]
    return "; ".join(told[:_NAMED]) + (f"; {len(told) - _NAMED} more" if len(told) > _NAMED else "")


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
