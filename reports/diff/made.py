"""In which facts two runs were made differently: weights, images, code, versions, machines, recipes and parameters.

A fact is looked at where both runs have what it is a fact of: the same model (or the only one of each run, whatever it
is called), the same defense, the same perturbation. Several values of one run stand together. Costs and pictures are no
facts of this kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from reports.diff.changes import Made
from reports.gate.numbers import Run
from robust_eval.results.entry import Entry
from robust_eval.results.names import UNSET, value_text

__all__ = ["made_differently"]

_KINDS = (
    "weights",
    "data",
    "model",
    "defense",
    "attack",
    "corruption",
    "examination",
    "analysis",
    "version",
    "machine",
)
"""In the order in which they are told."""
_MACHINE = ("device", "precision", "batch_size")
_OF_MODEL = ("remedies", "gradient_draws", "black_box", "outputs", "substitute")
_STRENGTHS = ("eps", "severity")
_MOST = 4
"""Values of one run that are written out."""

_Facts = Mapping[tuple[str, str, str], Mapping[str, None]]


def made_differently(one: Run, two: Run) -> tuple[Made, ...]:
    """Return the facts that differ, the most telling first."""
    alone = len(one.models) == len(two.models) == 1
    before, after = (_facts(run, alone=alone) for run in (one, two))
    places = [{(kind, of) for kind, of, _ in facts} for facts in (before, after)]
    found = []
    for kind, of, name in dict.fromkeys((*before, *after)):
        if any((kind, of) not in known for known in places):
            continue
        sides = [set(facts.get((kind, of, name), {UNSET: None})) for facts in (before, after)]
        if sides[0] != sides[1]:
            shown = (_joined(facts.get((kind, of, name), {UNSET: None})) for facts in (before, after))
            found.append(Made(kind, of, name, *shown))
    return tuple(sorted(found, key=lambda made: _KINDS.index(made.kind)))


def _facts(run: Run, *, alone: bool) -> _Facts:
    found: dict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    loaded = run.loaded
    for entry in (*loaded.entries, *loaded.examinations, *loaded.analyses):
        model = "" if alone else str(entry.labels["model"])
        for kind, of, name, value in _of(entry, model):
            found[kind, of, name][value_text(value) if not isinstance(value, str) else value] = None
    return found


def _of(entry: Entry, model: str) -> Iterator[tuple[str, str, str, Any]]:
    record, spec = entry.record, entry.record.spec
    made = record.provenance
    yield "weights", model, "sha256", made.get("weights_sha256", "unknown")
    data = spec.get("data")
    yield "data", "", "set", str(record.labels.get("data"))
    for name, value in _flat(data if isinstance(data, Mapping) else {}):
        yield "data", "", "sha256" if name == "fingerprint" else name, value
    for name, value in _flat({"": spec.get("model")}):
        if name != ".weights":  # told already, where a record knows its file
            yield "model", model, name.strip("."), value
    for name in _OF_MODEL:
        if made.get(name) is not None:
            for path, value in _flat({name: made[name]}):
                yield "model", model, path, value
    yield from _of_method("defense", record.labels.get("defense"), spec.get("defense"))
    for name in ("draws", "gradient_draws", "adaptation", "pool"):
        if spec.get(name) is not None and record.labels.get("defense") not in (None, "none"):
            yield "defense", str(record.labels.get("defense")), name, spec[name]
    family = str(entry.labels["family"])
    if family in _KINDS:
        yield from _of_method(family, record.labels.get("perturbation"), spec.get("perturbation"))
    versions = made.get("versions")
    for name, value in versions.items() if isinstance(versions, Mapping) else ():
        yield "version", "", str(name), value
    for name in _MACHINE:
        if made.get(name) is not None:
            yield "machine", "", name, made[name]


def _of_method(kind: str, name: Any, described: Any) -> Iterator[tuple[str, str, str, Any]]:
    if not isinstance(described, Mapping) or name in (None, "none"):
        return
    yield kind, str(name), "version", described.get("version", UNSET)
    params = described.get("params")
    for path, value in _flat(params if isinstance(params, Mapping) else {}):
        if path not in _STRENGTHS:
            yield kind, str(name), path, value


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _joined(values: Mapping[str, None]) -> str:
    texts = list(values)
    more = f" and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return ", ".join(texts[:_MOST]) + more
