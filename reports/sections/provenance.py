"""How the numbers were made: images, runs, seeds, costs, machines and versions."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.bodies import Commands, Facts
from reports.section import Section, Source
from reports.sections.sheet import SAMPLE
from reports.sections.statement import images
from robust_eval.identity import BY_FILES
from robust_eval.paths import is_file
from robust_eval.printable import printable
from robust_eval.results.entry import Entry
from robust_eval.results.pictured import PICTURES

__all__ = ["passes", "sections"]

_SUMMED = ("seconds", "forwards", "backwards")
_BATCHES = "batches"
_ELSEWHERE = ("training", "estimate", SAMPLE, PICTURES, _BATCHES)
"""Provenance that has a section of its own."""


def sections(source: Source) -> Iterator[Section]:
    """Yield what the records, and the examinations beside them, say of it."""
    facts = Facts(tuple(_provenance(source.entries, source.loaded.examinations)))
    commands = tuple(_commands(source.folders))
    if commands:
        where = "Type a command in the folder that holds the folder of its run."
        yield Section("Provenance", Commands(commands), where)
    yield Section("" if commands else "Provenance", facts)


def _commands(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield what measures each run again, where its experiment lies beside its records."""
    for folder in folders:
        if is_file(folder / "experiment.toml"):
            name = printable(folder.resolve().name)
            file, out = shlex.quote(f"./{name}/experiment.toml"), shlex.quote(f"./{name}-again")
            yield f"Measure {name} again, from training on:", f"robust-eval run {file} --out {out}"


def passes(entry: Entry) -> dict[str, Any]:
    """Return the network passes of a record, summed over its examples."""
    rows = entry.record.rows
    return {name: int(rows[name].sum()) for name in ("forwards", "backwards") if name in rows.columns}


def _provenance(entries: tuple[Entry, ...], examinations: tuple[Entry, ...]) -> Iterator[tuple[str, str]]:
    """Return what the records say about how they were made: counters summed, other facts counted."""
    yield "records", str(len(entries)) + (f" and {len(examinations)} examinations" if examinations else "")
    entries += examinations
    yield "runs", ", ".join(dict.fromkeys(entry.run for entry in entries))
    yield from dict.fromkeys(_images(entry) for entry in entries)
    yield "seed of the attacks", ", ".join(sorted({str(entry.labels["seed"]) for entry in entries}))
    sums: dict[str, float] = defaultdict(float)
    facts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        facts_of = {k: v for k, v in entry.record.provenance.items() if k not in _ELSEWHERE}
        for name, value in _flat(passes(entry) | facts_of):
            if name in _SUMMED and isinstance(value, int | float):
                sums[name] += value
            elif value is not None:  # as why a network was slow, of one that was not
                facts[name][str(value)] += 1
    for name in _SUMMED:
        if name in sums:
            yield f"{name}, all records", f"{sums[name]:,.1f}" if name == "seconds" else f"{sums[name]:,.0f}"
    yield from _batches(entries)
    for name, values in sorted((name.replace("_", " "), values) for name, values in facts.items()):
        if len(values) > 12:
            yield name, f"{len(values)} different values, from {min(values)} to {max(values)}"
        else:
            several = len(values) > 1
            yield name, ", ".join(f"{v} ({c} records)" if several else v for v, c in sorted(values.items()))


def _batches(entries: tuple[Entry, ...]) -> Iterator[tuple[str, str]]:
    """Yield how many images attacks sent through the networks, by way and precision, and how many at a time."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry in entries:
        kinds = entry.record.provenance.get(_BATCHES)
        for kind, sizes in kinds.items() if isinstance(kinds, Mapping) else ():
            for counted in sizes.values() if isinstance(sizes, Mapping) else ():
                match counted:
                    case [int() as calls, int() as sent] if calls > 0:
                        sums[str(kind)][0] += calls
                        sums[str(kind)][1] += sent
    for kind, (calls, sent) in sorted(sums.items()):
        yield f"attacks, {kind}", f"{sent:,} images, {sent / calls:,.0f} at a time"


def _images(entry: Entry) -> tuple[str, str]:
    """Return which images were measured: their number, and the hash of their pixels and labels."""
    data = entry.record.spec.get("data") or {}
    n, fingerprint = data.get("n", images(entry)), data.get("fingerprint", "unknown")
    # of a large set not all pixels were read
    of = " of the files' names and sizes and of some pixels" if str(fingerprint).endswith(BY_FILES) else ""
    return f"images of {entry.labels['data']}", f"{n}, sha256{of} {str(fingerprint).removesuffix(BY_FILES)}"


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
