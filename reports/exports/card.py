"""``card.json`` and ``card.md``: the report's numbers with all that it takes to repeat them.

What is in it, and in which order, is the schema in :mod:`robust_eval.config.card`. Its numbers are those of the
report's first table: clean, worst case in each norm at the radius told there, mean over corruptions. What was measured
and does not exist, was not measured or failed has no value and says why. ``card.md`` is the same for a reader.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reports.bodies import Answer, AnswerLine, Grid, Paragraphs
from reports.exports.runs import Folders, runs_of
from reports.formats.markdown import markdown
from reports.section import Section, Source
from reports.sections.answer import answer
from reports.sections.provenance import passes
from reports.sections.trust import trust
from reports.tables import CLEAN, MEAN, MISSING, Column, Number
from robust_eval.config.card import (
    Card,
    Checked,
    Failed,
    Headline,
    Images,
    Method,
    Model,
    Raised,
    Threat,
)
from robust_eval.results.entry import Entry
from robust_eval.results.names import params_text
from robust_eval.results.naming import substitute_of
from robust_eval.threat import threat_text

__all__ = ["card_json", "card_markdown", "card_of", "headlines", "plain"]


def card_of(source: Source, folders: Folders) -> Card:
    """Return the card of a report."""
    loaded = source.loaded
    everything = (*loaded.entries, *loaded.examinations, *loaded.analyses)
    failed = list(folders.failed())
    told = answer(source)
    return Card(
        schema=1,
        asked=list(told.asked),
        threats=_threats(loaded.entries),
        data=_images(everything, folders),
        models=_models(everything),
        defenses=_methods(everything, "defense"),
        attacks=_methods(loaded.entries, "attack"),
        corruptions=_methods(loaded.entries, "corruption"),
        analyses=_methods(loaded.analyses, "analysis"),
        seeds=sorted({e.labels["seed"] for e in everything if isinstance(e.labels["seed"], int)}),
        numbers=list(headlines(told, failed)),
        checks=_checks(source),
        failed=failed,
        left_out=list(loaded.left_out),
        versions=_versions(everything),
        machine=_facts(everything, ("device", "precision", "slow_because", "remedies")),
        cost=_cost(everything),
        runs=runs_of(everything, folders),
    )


def card_json(card: Card) -> str:
    """Return a card as the text of its file."""
    return json.dumps(card.model_dump(by_alias=True), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def card_markdown(source: Source, card: Card) -> str:
    """Return a card as a page for a reader."""
    parts = [
        Section("", answer(source)),
        Section(
            "Trust",
            Grid(
                ("model", "defense", "verdict"),
                tuple((told.model, told.defense, told.words) for told in card.checks if not told.relied),
                left=3,
            ),
        ),
        Section("How", Grid(("kind", "method", "strength", "parameters"), tuple(_used(card)), left=4)),
        Section("How to repeat it", Paragraphs(tuple(_repeating(card)))),
        Section("", Grid(("model", "trained by", "sha256 of its weights"), tuple(_weights(card)), left=3)),
    ]
    return markdown(
        [part for part in parts if not (isinstance(part.body, Grid) and not part.body.rows)],
        "Robustness card",
    )


def headlines(told: Answer, failed: Sequence[Failed] = ()) -> Iterator[Headline]:
    """Yield the numbers that decide, line by line; where one is missing, the reason stands in its place."""
    for line in told.lines:
        for column, cell in zip(told.columns, line.cells, strict=True):
            yield _headline(line, column, None if cell is None else cell.number, failed)


def plain(value: Any) -> Any:
    """Return plain data as JSON can hold it: numbers that are none are told in words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _headline(line: AnswerLine, column: Column, number: Number | None, failed: Sequence[Failed]) -> Headline:
    about = line.line
    value = None if number is None else _finite(number.value)
    what = "clean" if column == CLEAN else "corruptions" if column == MEAN else "worst_case"
    reason = _why(line, what, failed) if number is None else None
    if number is not None and value is None:
        reason = f"failed: {number.failed}" if number.failed else "measured, and it does not exist"
    return Headline(
        model=about.model,
        defense=about.defense,
        access=about.access,
        data=about.data,
        seed=about.seed,
        train_seed=about.train_seed,
        what=what,
        norm=None if column.norm == "none" else column.norm,
        eps=column.eps,
        metric="accuracy",
        value=value,
        ci_low=None if number is None or value is None else _finite(number.low),
        ci_high=None if number is None or value is None else _finite(number.high),
        spread=None if number is None or value is None else _finite(number.spread),
        n=None if number is None else number.n,
        estimated_for=None if number is None else number.estimated_for,
        verdict="ok" if number is None else number.verdict,
        checks="ok" if number is None else number.checks,
        reason=reason,
    )


def _why(line: AnswerLine, what: str, failed: Sequence[Failed]) -> str:
    family = {"clean": "clean", "corruptions": "corruption"}.get(what, "attack")
    for item in failed:
        if (item.model, item.defense, item.family) == (line.line.model, line.line.defense, family):
            return f"failed: {item.error}"
    return "not measured"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _threats(entries: Iterable[Entry]) -> list[Threat]:
    radii: dict[str, set[float]] = defaultdict(set)
    access: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.labels["family"] == "attack":
            radii[entry.labels["norm"]] |= set(_radii(entry))
            access[entry.labels["norm"]].add(entry.labels["access"])
    return [
        Threat(norm=norm, eps=sorted(radii[norm]), access=sorted(access[norm])) for norm in sorted(access)
    ]


def _radii(entry: Entry) -> list[float]:
    own = [entry.labels["eps"], *(measurement.eps for measurement in entry.record.summary)]
    return [float(eps) for eps in own if isinstance(eps, int | float) and math.isfinite(eps)]


def _images(entries: Iterable[Entry], folders: Folders) -> list[Images]:
    found: dict[tuple[str, Any, Any], Images] = {}
    for entry in entries:
        data = _mapping(entry.record.spec.get("data"))
        n, sha = _whole(data.get("n")), _text(data.get("fingerprint"))
        name = str(entry.labels["data"])
        source = folders.table_of(entry.record.key, "data")
        found.setdefault((name, n, sha), Images(name=name, n=n, sha256=sha, source=source))
    return list(found.values())


def _models(entries: Iterable[Entry]) -> list[Model]:
    found: dict[str, tuple[Model, list[str]]] = {}
    for entry in entries:
        spec = _mapping(entry.record.spec.get("model"))
        recipe = plain(_mapping(spec.get("recipe"))) or None
        architecture = _mapping((recipe or spec).get("architecture"))
        known = json.dumps([entry.labels["model"], plain(entry.record.spec.get("model"))], sort_keys=True)
        normal = recipe or spec
        model = Model(
            name=str(entry.labels["model"]),
            architecture=str(entry.labels["arch"]),
            architecture_params=plain(_mapping(architecture.get("params"))) if architecture else None,
            regularizer=str(entry.labels["regularizer"]),
            train_seed=_whole(entry.labels["train_seed"]),
            recipe=recipe,
            training_data_sha256=_text(spec.get("data")),
            mean=_numbers(normal.get("mean")),
            std=_numbers(normal.get("std")),
            weights_sha256=[],
        )
        _, weights = found.setdefault(known, (model, []))
        sha = _text(entry.record.provenance.get("weights_sha256"))
        weights += [sha] if sha is not None and sha not in weights else []
    return [model.model_copy(update={"weights_sha256": sorted(weights)}) for model, weights in found.values()]


def _methods(entries: Iterable[Entry], kind: str) -> list[Method]:
    """Return each method of a kind once, with the radii and the ways in which it was used."""
    found: dict[str, Method] = {}
    used: dict[str, tuple[set[float], set[str]]] = defaultdict(lambda: (set(), set()))
    for entry in entries:
        spec = _mapping(entry.record.spec.get("defense" if kind == "defense" else "perturbation"))
        name = entry.record.labels.get("defense" if kind == "defense" else "perturbation")
        if (
            not isinstance(name, str)
            or name == "none"
            or (kind != "defense" and entry.labels["family"] != kind)
        ):
            continue
        params = entry.record.labels.get("defense_params") if kind == "defense" else entry.params
        method = Method(
            name=name,
            version=_whole(spec.get("version")),
            params=plain(_mapping(params)),
            norm=str(entry.labels["norm"]) if kind == "attack" else None,
            draws=_whole(entry.record.spec.get("draws")) if kind == "defense" else None,
            pool_sha256=_text(entry.record.spec.get("pool")) if kind == "defense" else None,
            substitute=(substitute_of(entry.record) or None) if kind == "attack" else None,
        )
        known = method.model_dump_json()
        found.setdefault(known, method)
        if kind == "attack":
            used[known][0].update(_radii(entry))
            used[known][1].add(str(entry.labels["access"]))
    return [
        method.model_copy(update={"eps": sorted(used[known][0]), "access": sorted(used[known][1])})
        for known, method in sorted(found.items(), key=lambda item: item[1].name)
    ]


def _checks(source: Source) -> list[Checked]:
    return [
        Checked(
            model=told.model,
            defense=told.defense,
            data=told.data,
            verdict=told.verdict,
            words=told.words,
            relied=told.relied,
            examined=told.examined,
            raised=[Raised(**item._asdict()) for item in told.raised],
            passed=list(told.passed),
        )
        for told in trust(source.loaded)
    ]


def _versions(entries: Iterable[Entry]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for name, version in _mapping(entry.record.provenance.get("versions")).items():
            found[str(name)].add(str(version))
    return {name: sorted(found[name]) for name in sorted(found)}


def _facts(entries: Iterable[Entry], names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for name in names:
            if (value := entry.record.provenance.get(name)) is not None:
                found[name] |= {str(item) for item in (value if isinstance(value, list) else [value])}
    return {name: sorted(found[name]) for name in sorted(found)}


def _cost(entries: Iterable[Entry]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for entry in entries:
        for name, value in ({"seconds": entry.record.provenance.get("seconds")} | passes(entry)).items():
            if isinstance(value, int | float) and math.isfinite(value):
                sums[name] += value
    return {name: round(total, 4) for name, total in sorted(sums.items())}


def _strength(method: Method) -> str:
    if method.norm is None:
        return f"{method.draws} draws" if method.draws else MISSING
    return ", ".join(threat_text(method.norm, eps) for eps in method.eps) or f"{method.norm} minimal"


def _used(card: Card) -> Iterator[tuple[str, str, str, str]]:
    """Yield the methods; those of a kind that differ in nothing but their name share a line."""
    for kind, methods in (
        ("attack", card.attacks),
        ("corruption", card.corruptions),
        ("defense", card.defenses),
        ("analysis", card.analyses),
    ):
        alike: dict[tuple[str, str], list[str]] = defaultdict(list)
        for method in methods:
            stood_in = f" ({method.substitute})" if method.substitute else ""
            alike[_strength(method), params_text(method.params)].append(f"{method.name}{stood_in}")
        for (strength, params), names in alike.items():
            yield kind, ", ".join(names), strength, params


def _weights(card: Card) -> Iterator[tuple[str, str, str]]:
    for model in card.models:
        seed = "" if model.train_seed is None else f", seed {model.train_seed}"
        trained = "unknown" if model.recipe is None else f"its recipe in card.json{seed}"
        yield model.name, trained, ", ".join(model.weights_sha256) or "unknown"


def _repeating(card: Card) -> Iterator[str]:
    for run in card.runs:
        told = f"{len(run.cells)} cells of run {run.name}: "
        if run.command is None:
            yield f"{told}cannot be repeated from this card: {run.not_repeatable}."
        else:
            yield f"{told}{run.command}"
    for images in card.data:
        n = "unknown number" if images.n is None else images.n
        yield f"Images of {images.name}: {n}, sha256 {images.sha256 or 'unknown'}."
    versions = "; ".join(f"{name} {', '.join(found)}" for name, found in card.versions.items())
    yield f"Versions: {versions or 'unknown'}. Seed {', '.join(map(str, card.seeds)) or 'unknown'}."
    if card.failed:
        yield f"Failed, without a number: {len(card.failed)} cells, in card.json with their errors."


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _numbers(value: Any) -> list[float] | None:
    if not isinstance(value, list | tuple) or not all(isinstance(item, int | float) for item in value):
        return None
    return [float(item) for item in value if math.isfinite(item)]
