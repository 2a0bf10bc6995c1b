"""What a written report holds besides the comparison: the threat statement, checks, parameters, provenance.

Markdown, LaTeX and the page are three spellings of the one :class:`Sections`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from reports.comparison import comparison, metrics, threats
from reports.grid import Grid
from reports.sections.agreement import Agreement, agreements
from reports.sections.analyses import grids, looks
from reports.sections.classes import class_grids
from reports.sections.corruptions import corruption_grids, named_baseline, severity_means
from reports.sections.deformations import deformations
from reports.sections.differences import Differences, differences
from reports.sections.memorisation import memorised
from reports.sections.sheet import SAMPLE, Sheet, sheets
from reports.sections.trust import Advice, Trust, advice, speaking, trust
from reports.tables import CLEAN, MEAN, MISSING, Comparison, Number
from robust_eval.metrics.classification import CALIBRATION
from robust_eval.results.entry import Entry
from robust_eval.results.load import Loaded
from robust_eval.results.names import check_names, params_text
from robust_eval.threat import threat_text

__all__ = [
    "CERTIFIED",
    "COST",
    "HOW_TO_READ",
    "Grid",
    "Sections",
    "Setting",
    "advice_for",
    "counters",
    "doubts",
    "sections",
]

HOW_TO_READ = (
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
CERTIFIED = (
    "Clean images that are right and proven to stay so under any perturbation shorter than the l2 radius, each with "
    "the confidence that the defense states. –: no model can be certified so far by this many draws "
    "(gaussian_smoothing: σ Φ⁻¹(α^(1/n)) at most for n draws); raise certify_draws."
)
ONCE = (
    "A mean over corruptions counts a type once at each severity: where it was both made and read from files (files=), "
    "the files count, and of several folders the first by name."
)
COST = "passes per image"
"""Heading: forward passes + gradients, of an attacked image on average."""
_SUMMED = ("seconds", "forwards", "backwards")
_ELSEWHERE = ("training", SAMPLE)
"""Provenance that has a section of its own."""
_SIDE_BY_SIDE = 8
"""Corruptions whose columns a reader takes in; of more there are means, and a drawing."""


class Setting(NamedTuple):
    """One method with all its parameters."""

    name: str
    strength: str
    params: str
    cost: str = ""
    """What it took on average for an image that was attacked."""


@dataclass(frozen=True)
class Sections:
    """Everything a report says, before it is spelt out in a format."""

    statement: tuple[str, ...]
    trust: tuple[Trust, ...]
    how_to_read: tuple[str, ...]
    attacks: Comparison
    corruptions: Comparison
    """Each corruption, or where there are many the means at each severity."""
    every_corruption: Comparison
    """Each corruption where there are many; else without columns."""
    deformations: Comparison
    corruption_errors: tuple[Grid, ...]
    sheets: tuple[Sheet, ...]
    """What the corruptions look like."""
    distances: Comparison
    further: tuple[Comparison, ...]
    """Other metrics, one table each."""
    grids: tuple[Grid, ...]
    """Differences between models, what noisy labels did, classification, calibration and analyses."""
    agreements: tuple[Agreement, ...]
    """Our attacks beside those of other libraries, where both were run."""
    advice: tuple[Advice, ...]
    attack_settings: tuple[Setting, ...]
    corruption_settings: tuple[Setting, ...]
    defense_settings: tuple[Setting, ...]
    models: tuple[tuple[str, ...], ...]
    """Model, architecture, regularizer and train seed."""
    provenance: tuple[tuple[str, str], ...]


def sections(loaded: Loaded, *, baseline: str | None = None) -> Sections:
    """Collect what the records say; ``baseline`` is the model that corruption errors are divided by.

    Raises ``DataError`` for a baseline that was not measured.
    """
    results, entries = loaded.results, loaded.entries
    if baseline is not None:
        baseline = named_baseline(entries, baseline)
    table = comparison(results)
    shown, many, deformed = _corruptions(table, entries)
    told = ("accuracy", "median_distance", *CALIBRATION)
    named = [name for name in metrics(results) if name not in told]
    defended = any(entry.labels["defense"] != "none" for entry in entries)
    return Sections(
        statement=tuple(_statement(results, entries)),
        trust=trust(loaded),
        how_to_read=(
            *HOW_TO_READ,
            *([DEFENDED] if defended else []),
            *([ONCE] if table.counted_once else []),
        ),
        attacks=table.part("clean", "attack"),
        corruptions=shown,
        every_corruption=many,
        deformations=deformed,
        corruption_errors=corruption_grids(entries, baseline),
        sheets=sheets(entries),
        distances=comparison(results, metric="median_distance"),
        further=tuple(piece for name in named for piece in _pieces(comparison(results, metric=name))),
        grids=(
            *map(_differences, differences(entries)),
            *memorised(entries),
            *class_grids(entries),
            *_calibrations(results),
            *grids(looks(loaded.analyses)),
        ),
        agreements=tuple(agreements(entries)),
        advice=tuple(advice(speaking(loaded))),
        attack_settings=tuple(_with_cost(entries)),
        corruption_settings=tuple(s for s in _settings(entries, "corruption") if s.params != "none"),
        defense_settings=tuple(_defenses(entries)),
        models=tuple(dict.fromkeys(map(_model, entries))),
        provenance=tuple(_provenance(entries, loaded.examinations)),
    )


def advice_for(entries: tuple[Entry, ...]) -> dict[tuple[str, str], str]:
    """Return the advice of each raised check by record key and name; by ``("", name)`` if computed."""
    found: dict[tuple[str, str], str] = {}
    for entry in entries:
        for check in entry.checks:
            if check.verdict != "ok":
                figure = "not made" if check.verdict == "not_made" else f"{check.figure:.3g}"
                found[entry.record.key, check.name] = f"{check.name} ({figure}): {check.advice}"
                found.setdefault(("", check.name), f"{check.name}: {check.advice}")
    return found


def doubts(number: Number, told: Mapping[tuple[str, str], str]) -> list[str]:
    """Return one sentence for each check that was raised on a number."""
    names = check_names(number.checks)
    return [told.get((number.key, name)) or told.get(("", name), name) for name in names]


def _differences(found: Differences) -> Grid:
    rows = [
        (name, *(MISSING if cell is None else cell.text for cell in cells)) for name, cells in found.lines
    ]
    sizes = sorted({cell.n for _, cells in found.lines for cell in cells if cell is not None})
    n = f"{sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "") if sizes else "0"
    note = (
        f"In points of accuracy, undefended, beside {found.reference} on the same {n} images of {found.data}: 95 % "
        "interval of the paired difference (Bonett and Price) and McNemar's exact p, not corrected for the number of "
        "comparisons. About these weights; training again adds a spread of its own."
    )
    return Grid("Differences between models", note, ("model", *found.columns), tuple(rows), 1)


def _calibrations(results: pd.DataFrame) -> Iterator[Grid]:
    """Return one table of the calibration metrics on clean images."""
    tables = [comparison(results, metric=name) for name in CALIBRATION]
    rows = tuple(
        (*tables[0].head_texts(line), *(table.text(line, CLEAN, intervals=False) for table in tables))
        for line in tables[0].lines
    )
    if rows:
        spoken = ("ECE, equal width", "ECE, equal mass", "mean confidence - accuracy")
        heads = (*(name.replace("_", " ") for name in tables[0].heads), *spoken)
        note = (
            "On clean images. Expected calibration errors (ECE) are in units of probability, over 15 bins of equal "
            "width or of equal mass. A gap above 0 is too much confidence, below 0 too little."
        )
        yield Grid("Calibration", note, heads, rows, len(tables[0].heads))


def _corruptions(table: Comparison, entries: tuple[Entry, ...]) -> tuple[Comparison, Comparison, Comparison]:
    """Return corruptions as they are shown first, all of them where those are means, and deformations."""
    nothing = table.only(())
    if not _corrupted(table):
        return nothing, nothing, nothing
    severe, deformed = deformations(table.part("clean", "corruption").without_access(), entries)
    if not _corrupted(severe):
        return nothing, nothing, deformed
    if sum(column not in (CLEAN, MEAN) for column in severe.columns) <= _SIDE_BY_SIDE:
        return severe, nothing, deformed
    return severity_means(severe), severe.part("clean", "corruption", without=[MEAN]), deformed


def _pieces(table: Comparison) -> Iterator[Comparison]:
    """Return the attacks of a table and its corruptions, whichever are there."""
    attacks = table.part("clean", "attack")
    if attacks.columns:
        yield attacks
    if _corrupted(table):
        corrupted = table.part("corruption").without_access()
        many = sum(column != MEAN for column in corrupted.columns) > _SIDE_BY_SIDE
        yield severity_means(corrupted) if many else corrupted


def _corrupted(table: Comparison) -> bool:
    return any(column.family == "corruption" and column != MEAN for column in table.columns)


def _statement(results: pd.DataFrame, entries: tuple[Entry, ...]) -> Iterator[str]:
    sizes = sorted({entry.record.spec.get("data", {}).get("n") or _n(entry) for entry in entries})
    if not sizes:
        yield "Nothing was measured."
        return
    images = f"{sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
    models = len(set(results["model"]))
    yield f"{images} images of {_listed(results['data'])}; {models} {'model' if models == 1 else 'models'}."
    adversary = threats(results)
    if not adversary:
        yield "No attack was run: these numbers say nothing about an adversary."
        return
    yield (
        "The adversary may use the model's weights and gradients and the true label, and change an image by "
        f"{' or '.join(adversary)}, in units of the [0, 1] pixel range."
    )


def _model(entry: Entry) -> tuple[str, ...]:
    words = (entry.labels[name] for name in ("model", "arch", "regularizer", "train_seed"))
    return tuple(MISSING if word is None else str(word) for word in words)


def _n(entry: Entry) -> int:
    return max((measurement.n for measurement in entry.record.summary), default=0)


def _listed(names: pd.Series[str]) -> str:
    return ", ".join(sorted(set(names)))


def _with_cost(entries: tuple[Entry, ...]) -> Iterator[Setting]:
    """Return the settings of the attacks with the passes that an attacked image took, averaged over records."""
    spent: dict[Setting, list[tuple[float, float]]] = defaultdict(list)
    settings = list(_settings(entries, "attack"))
    for entry in entries:
        rows = entry.record.rows
        if entry.labels["family"] == "attack" and {"attacked", "forwards", "backwards"} <= set(rows.columns):
            attacked = rows[rows["attacked"]]
            if len(attacked):
                means = (float(attacked["forwards"].mean()), float(attacked["backwards"].mean()))
                spent[_setting(entry)].append(means)
    for setting in settings:
        passes = spent[setting]
        forwards, backwards = (
            (sum(column) / len(passes) for column in zip(*passes, strict=True)) if passes else (0, 0)
        )
        yield setting._replace(cost=f"{forwards:,.0f} + {backwards:,.0f}" if passes else MISSING)


def _settings(entries: tuple[Entry, ...], family: str) -> Iterator[Setting]:
    yield from dict.fromkeys(
        _setting(entry) for entry in sorted(entries, key=_by_strength) if entry.labels["family"] == family
    )


def _setting(entry: Entry) -> Setting:
    labels = entry.labels
    attack = labels["family"] == "attack"
    severity = "" if labels["severity"] is None else f"s{labels['severity']}"
    strength = threat_text(labels["norm"], labels["eps"]) if attack else severity
    told = ("eps", "norm") if attack else ("severity",)
    rest = {name: value for name, value in entry.params.items() if name not in told}
    return Setting(labels["perturbation"], strength, params_text(rest))


def _by_strength(entry: Entry) -> tuple[str, str, float, int]:
    labels = entry.labels
    return (labels["perturbation"], labels["norm"], labels["eps"] or 0.0, labels["severity"] or 0)


def _defenses(entries: tuple[Entry, ...]) -> Iterator[Setting]:
    seen: set[Setting] = set()
    for entry in sorted(entries, key=lambda e: str(e.labels["defense"])):
        if entry.labels["defense"] == "none":
            continue
        draws = entry.record.spec.get("draws")
        params = params_text(entry.record.labels.get("defense_params") or {})
        setting = Setting(entry.labels["defense"], f"{draws} draws" if draws else "", params)
        if setting not in seen:
            seen.add(setting)
            yield setting


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
        for name, value in _flat(counters(entry) | facts_of):
            if name in _SUMMED and isinstance(value, int | float):
                sums[name] += value
            else:
                facts[name][str(value)] += 1
    for name in _SUMMED:
        if name in sums:
            yield f"{name}, all records", f"{sums[name]:,.1f}" if name == "seconds" else f"{sums[name]:,.0f}"
    for name, values in sorted(facts.items()):
        if len(values) > 12:
            yield name, f"{len(values)} different values, from {min(values)} to {max(values)}"
        else:
            several = len(values) > 1
            yield name, ", ".join(f"{v} ({c} records)" if several else v for v, c in sorted(values.items()))


def _images(entry: Entry) -> tuple[str, str]:
    """Return which images were measured: their number, and the hash of their pixels and labels."""
    data = entry.record.spec.get("data") or {}
    n, fingerprint = data.get("n", _n(entry)), data.get("fingerprint", "unknown")
    return f"images of {entry.labels['data']}", f"{n}, sha256 {fingerprint}"


def counters(entry: Entry) -> dict[str, Any]:
    """Return the network passes of a record, summed over its examples."""
    rows = entry.record.rows
    return {name: int(rows[name].sum()) for name in ("forwards", "backwards") if name in rows.columns}


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
