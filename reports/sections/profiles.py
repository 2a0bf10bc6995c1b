"""Model by model: what was checked in plain words, what was found, what to do; the numbers, and what the model is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.answer import seen_by
from reports.bodies import Trust
from reports.page_bodies import Asked, Measured, Profile, Profiles
from reports.section import Section, Source
from reports.sections.trust import speaking, trust
from reports.tables import MEAN, Comparison
from robust_eval.checks.card import card_of
from robust_eval.checks.meanings import figure_text
from robust_eval.findings import VERDICTS, Check
from robust_eval.results.entry import Entry
from robust_eval.results.names import params_text, value_text

__all__ = ["sections"]

NOTE = "Each model and defense: its checks in words, its numbers, and what it is."
_OWN = ("architecture", "regularizer")
"""Parts of a recipe that are methods with parameters of their own."""


def sections(source: Source) -> Iterator[Section]:
    """Yield them in the order of the tables."""
    heard: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    measured: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in speaking(source.loaded):
        heard[_place(entry)].append(entry)
    for entry in source.entries:
        measured[_place(entry)].append(entry)
    lines = tuple(
        _profile(line, heard[line[:3]], measured[line[:3]], source.table) for line in trust(source.loaded)
    )
    if lines:
        yield Section("Model by model", Profiles(lines), NOTE, folded=True)


def _place(entry: Entry) -> tuple[str, str, str]:
    return entry.labels["model"], entry.labels["defense"], entry.labels["data"]


def _profile(line: Trust, heard: Sequence[Entry], measured: Sequence[Entry], table: Comparison) -> Profile:
    asked = tuple(_asked(heard))
    verdict = line.verdict if line.verdict != "ok" else "passed" if line.relied else "unsure"
    return Profile(
        line.model,
        line.defense,
        line.data,
        verdict,
        line.words,
        tuple(check for check in asked if check.verdict != "ok"),
        tuple(check for check in asked if check.verdict == "ok"),
        line.examined,
        tuple(_numbers(line, table)),
        tuple(_facts(measured or heard)),
    )


def _asked(entries: Sequence[Entry]) -> Iterator[Asked]:
    """Yield each check once for each verdict and advice it gave, the worst first."""
    of: dict[tuple[Any, str, str], list[Check]] = defaultdict(list)
    for check in (check for entry in entries for check in entry.checks):
        of[check.verdict, check.name, "" if check.verdict == "ok" else check.advice].append(check)
    for (verdict, name, advice), checks in sorted(of.items(), key=lambda item: _order(item[0])):
        texts = list(dict.fromkeys(figure_text(check) for check in sorted(checks, key=lambda c: -c.figure)))
        shown = (
            texts[0]
            if len(texts) == 1
            else f"{texts[0]} (of {len(texts)} figures, the lowest {_bare(texts[-1])})"
        )
        yield Asked(name, verdict, card_of(name).says, shown, advice)


def _order(key: tuple[Any, str, str]) -> tuple[int, str, str]:
    return (-VERDICTS.index(key[0]), *key[1:])


def _bare(text: str) -> str:
    return text.rpartition(": ")[2]


def _numbers(line: Trust, table: Comparison) -> Iterator[Measured]:
    """Yield clean accuracy, each attack and the mean over corruptions: the corruptions have tables of their own."""
    own = [one for one in table.lines if (one.model, one.defense, one.data) == line[:3]]
    for column in table.columns:
        if column.family == "corruption" and column.severity is not None and column != MEAN:
            continue
        seen: set[str] = set()
        for one in own:
            number = table.cells.get((one, column))
            # what knows no attacker stands in every line of its model
            if number is None or (column.family != "attack" and number.key in seen):
                continue
            seen.add(number.key)
            access = seen_by(one) if column.family == "attack" else ""
            yield Measured(column.text, access, number.short, number.interval, number.verdict, number.mark)


def _facts(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """Yield what the model is, as far as its records say."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for entry in entries:
        own = dict(_model(entry.record.spec.get("model")))
        labels = {"architecture": "arch", "regularizer": "regularizer", "train_seed": "train_seed"}
        for name, value in (
            *((name, own.pop(name, entry.labels.get(label))) for name, label in labels.items()),
            *own.items(),
            ("defense", _method(entry.labels.get("defense"), entry.record.labels.get("defense_params"))),
            ("weights sha256", _weights(entry.record.provenance)),
        ):
            if value not in (None, "", "none", "unknown"):
                found[name][str(value)] = None
    yield from ((name.replace("_", " "), ", ".join(values)) for name, values in found.items())


def _model(spec: object) -> Iterator[tuple[str, str]]:
    """Yield what a record's key says of the model: its recipe part by part, else all of it."""
    if not isinstance(spec, Mapping):
        yield "model", "" if spec is None else value_text(spec)
        return
    recipe = spec.get("recipe")
    if not isinstance(recipe, Mapping):
        yield "model", params_text(spec)
        return
    for name in _OWN:
        part = recipe.get(name)
        if isinstance(part, Mapping):
            yield name, _method(part.get("name"), part.get("params"))
    yield "recipe", params_text({name: value for name, value in recipe.items() if name not in _OWN})
    yield from (
        (f"{name} of the model", value_text(value)) for name, value in spec.items() if name != "recipe"
    )


def _method(name: object, params: object) -> str:
    if name in (None, "none"):
        return ""
    return f"{name} ({params_text(params)})" if isinstance(params, Mapping) and params else str(name)


def _weights(provenance: Mapping[str, Any]) -> object:
    inner = provenance.get("weights")
    return provenance.get("weights_sha256") or (inner.get("sha256") if isinstance(inner, Mapping) else None)
