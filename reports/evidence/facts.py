"""What was measured, sorted by what it bears on: knowledge of the attacker, kind of change, kind of proof."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reports.section import Source
from reports.tables import counted
from robust_eval.results.attacked import kind_of, made_elsewhere, method_of, params_of, radii_of
from robust_eval.results.entry import Entry
from robust_eval.results.estimates import is_estimate
from robust_eval.results.planned import unmeasured
from robust_eval.threat import threat_text

__all__ = ["Facts", "facts_of", "knowledge", "radii_text"]

WHITE, QUERY, TRANSFER, UNKNOWN = "white-box", "black-box, by queries", "black-box, by transfer", "not known"


@dataclass(frozen=True)
class Facts:
    """What was measured, each in words; empty where nothing of it was."""

    clean: str = ""
    evasion: str = ""
    """All attacks."""
    white: str = ""
    query: str = ""
    transfer: str = ""
    targeted: str = ""
    spatial: str = ""
    corruptions: str = ""
    certified: str = ""
    perturbed: str = ""
    """All that was changed about images, for methods that do not tell attacks from corruptions."""
    unadapted: tuple[str, ...] = ()
    """Defenses that no attack was aimed through."""
    unexamined: tuple[str, ...] = ()
    """Models that no check has looked at as attacks do."""
    norms: tuple[str, ...] = ()
    """Norms that were attacked in."""
    unfinished: tuple[str, ...] = ()
    """Why some of what was asked for has no number."""


def facts_of(source: Source) -> Facts:
    """Return the facts of the records of a report."""
    entries = source.entries
    attacks = [entry for entry in entries if entry.labels["family"] == "attack"]
    bounded = [entry for entry in attacks if entry.labels["norm"] != "spatial"]
    clean = [entry for entry in entries if entry.labels["family"] == "clean"]
    corrupted = [entry for entry in entries if entry.labels["family"] == "corruption"]
    types = {str(entry.labels["perturbation"]) for entry in corrupted}
    severities = sorted(
        {entry.labels["severity"] for entry in corrupted if entry.labels["severity"] is not None}
    )
    at = f" at severity {', '.join(map(str, severities))}" if severities else ""
    by_knowledge = {
        name: _attacks([entry for entry in bounded if knowledge(entry) == name])
        for name in (WHITE, QUERY, TRANSFER)
    }
    certified = any(m.metric == "certified_accuracy" for entry in entries for m in entry.record.summary)
    spatial = _attacks([entry for entry in attacks if entry.labels["norm"] == "spatial"])
    corruptions = f"{counted(len(types), 'type')} of corruption{at}" if types else ""
    return Facts(
        clean=_images(clean),
        evasion=_attacks(attacks),
        white=by_knowledge[WHITE],
        query=by_knowledge[QUERY],
        transfer=by_knowledge[TRANSFER],
        targeted=_attacks([entry for entry in bounded if params_of(entry.record).get("target") is not None]),
        spatial=spatial,
        corruptions=corruptions,
        certified="accuracy certified by random draws, at a stated confidence, in l2" if certified else "",
        perturbed="; ".join(filter(None, (_attacks(attacks), corruptions))),
        unadapted=tuple(_unadapted(entries)),
        unexamined=tuple(_unexamined(source, attacks)),
        norms=tuple(dict.fromkeys(str(entry.labels["norm"]).partition(" ")[0] for entry in attacks)),
        unfinished=tuple(_unfinished(source)),
    )


def knowledge(entry: Entry) -> str:
    """Return what an attacker knows of the model that is scored, in NIST's words."""
    name = str(entry.record.labels.get("perturbation"))
    if entry.labels["access"] == "transfer" or made_elsewhere(name):
        return TRANSFER
    method = method_of(name)
    if method is None:
        return UNKNOWN
    if kind_of(name) == "white" or method.gradients:
        return WHITE
    return QUERY


def radii_text(entry: Entry) -> str:
    """Return norm and radii of an attack, such as ``linf 8/255``."""
    norm = str(entry.labels["norm"])
    texts = [threat_text(norm, eps) for eps in radii_of(entry.record)]
    return ", ".join(dict.fromkeys(texts)) or f"{norm}, the smallest"


def _attacks(entries: Iterable[Entry]) -> str:
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        found.setdefault(str(entry.record.labels.get("perturbation")), {})[radii_text(entry)] = None
    return ", ".join(f"{name} ({', '.join(radii)})" for name, radii in found.items())


def _images(entries: Iterable[Entry]) -> str:
    found = {
        f"{(entry.record.spec.get('data') or {}).get('n', 'unknown')} images of {entry.labels['data']}": None
        for entry in entries
    }
    return ", ".join(found)


def _unadapted(entries: Iterable[Entry]) -> list[str]:
    through: dict[str, bool] = {}
    for entry in entries:
        defense = str(entry.labels["defense"])
        if defense != "none":
            through[defense] = through.get(defense, False) or entry.labels["access"] == "adaptive"
    return [name for name, aimed in through.items() if not aimed]


def _unexamined(source: Source, attacks: Iterable[Entry]) -> list[str]:
    looked = {(look.labels["model"], look.labels["data"]) for look in source.loaded.examinations}
    own = {(entry.labels["model"], entry.labels["data"]) for entry in attacks}
    return sorted({str(model) for model, _ in own - looked})


def _unfinished(source: Source) -> list[str]:
    loaded, told = source.loaded, []
    if loaded.broken:
        told.append(f"{counted(len(loaded.broken), 'cell')} stopped with an error and has no number")
    if loaded.left_out:
        told.append(f"{counted(len(loaded.left_out), 'record')} could not be believed and is in no number")
    if guessed := sum(is_estimate(entry.record) for entry in source.entries):
        told.append(
            f"{counted(guessed, 'number')} under attack estimated from some of the images, not measured on all"
        )
    for folder in source.folders:
        if left := unmeasured(folder):
            told.append(f"{folder.name} is partial: {counted(len(left), 'planned cell')} not measured")
    return told
