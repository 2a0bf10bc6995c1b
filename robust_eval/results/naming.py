"""What shares a name and is not the same gets names of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from robust_eval.identity import content_key
from robust_eval.results.entry import Entry
from robust_eval.results.names import differing, with_params
from robust_eval.results.record import Record

__all__ = ["substitute_of", "tell_apart"]


def tell_apart(entries: list[Entry]) -> list[Entry]:
    """Rename models, data sets, defenses and perturbations that share a name and are not the same.

    An attack that had a substitute for parts of it says so in its name.
    """
    for rename in (_models, _data, _defenses, _perturbations, _the_rest, _substituted):
        names = rename(entries)
        entries = [replace(e, labels={**e.labels, **names.get(e.record.key, {})}) for e in entries]
    return entries


def substitute_of(record: Record) -> str:
    """Return what stood in for parts of an attack, as ``3 classes: margin in place of DLR``; mostly empty."""
    words = record.provenance.get("substitute")
    return words.removeprefix("substitute for ")[:_LONGEST] if isinstance(words, str) else ""


_Names = dict[str, dict[str, str]]
_Facts = dict[str, Any]
_LONGEST = 80
"""Characters of what a record tells of a substitute."""
_MOST_SHOWN = 4
"""Facts behind a name; more are no name any longer."""


def _models(entries: list[Entry]) -> _Names:
    return _by_what_differs(entries, "model", _identity, (_recipe, _arch, _run, _normalisation, _weights))


def _identity(entry: Entry) -> str:
    """Return what a model is: the same for one recipe trained with several seeds."""
    model = entry.record.spec.get("model")
    if isinstance(model, dict) and isinstance(model.get("recipe"), dict):
        recipe = {name: value for name, value in model["recipe"].items() if name != "seed"}
        return content_key({**model, "recipe": recipe})
    return str(entry.record.labels.get("model_key") or "unknown")


def _data(entries: list[Entry]) -> _Names:
    return _by_what_differs(
        entries, "data", lambda e: content_key(e.record.spec.get("data") or {}), (_images, _run, _pixels)
    )


# What two models or two sets of images of one name may differ in, in words, the plainest first


def _recipe(entry: Entry) -> _Facts:
    model = entry.record.spec.get("model")
    recipe = model.get("recipe") if isinstance(model, dict) else None
    return {name: value for name, value in _flat(recipe or {}) if name != "seed"}


def _arch(entry: Entry) -> _Facts:
    return {"arch": entry.labels["arch"]}


def _run(entry: Entry) -> _Facts:
    return {"run": entry.run}


def _normalisation(entry: Entry) -> _Facts:
    model = entry.record.spec.get("model")
    return {name: model.get(name, "none") for name in ("mean", "std")} if isinstance(model, dict) else {}


def _weights(entry: Entry) -> _Facts:
    return {"weights": str(entry.record.provenance.get("weights_sha256", "unknown"))[:6]}


def _images(entry: Entry) -> _Facts:
    return {"n": (entry.record.spec.get("data") or {}).get("n", "unknown")}


def _pixels(entry: Entry) -> _Facts:
    return {"images": str((entry.record.spec.get("data") or {}).get("fingerprint", "unknown"))[:6]}


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _by_what_differs(
    entries: list[Entry],
    column: str,
    identity: Callable[[Entry], str],
    ways: Sequence[Callable[[Entry], _Facts]],
) -> _Names:
    """Put behind a name that means several things what tells them apart, in words; a hash where no words do."""
    meant: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        meant[entry.labels[column]][identity(entry)].append(entry)
    names: _Names = {}
    for name, things in meant.items():
        if len(things) > 1:
            words = _words(name, things, ways)
            names |= {e.record.key: {column: words[thing]} for thing, own in things.items() for e in own}
    return names


def _words(
    name: str, things: dict[str, list[Entry]], ways: Sequence[Callable[[Entry], _Facts]]
) -> dict[str, str]:
    """Return a name for each thing: by the first way that tells all of them apart, alone or with those before it."""
    together: dict[str, _Facts] = {thing: {} for thing in things}
    for way in ways:
        facts: dict[str, _Facts] = {}
        for thing, own in things.items():
            several = [way(entry) for entry in own]
            unsteady = set(differing(several))
            facts[thing] = {key: value for key, value in several[0].items() if key not in unsteady}
        shown = differing(list(facts.values()))
        alone = {thing: with_params(name, own, shown) for thing, own in facts.items()}
        if len(set(alone.values())) == len(things) and len(shown) <= _MOST_SHOWN:
            return alone
        if len(shown) <= _MOST_SHOWN:
            together = {thing: own | facts[thing] for thing, own in together.items()}
        both = differing(list(together.values()))
        joined = {thing: with_params(name, own, both) for thing, own in together.items()}
        if len(set(joined.values())) == len(things):
            return joined
    return {thing: f"{name} [{thing[:6]}]" for thing in things}


def _defenses(entries: list[Entry]) -> _Names:
    defended = [entry for entry in entries if entry.labels["defense"] != "none"]
    settings = {
        entry.record.key: {
            **(entry.record.labels.get("defense_params") or {}),
            **{name: entry.record.spec[name] for name in ("draws", "pool") if name in entry.record.spec},
            **_version(entry, "defense"),
        }
        for entry in defended
    }
    return _by_params(defended, "defense", settings, lambda e: e.labels["defense"], lambda e: None)


def _perturbations(entries: list[Entry]) -> _Names:
    perturbed = [entry for entry in entries if entry.labels["perturbation"] != "none"]
    given = {draws for entry in perturbed if (draws := entry.record.spec.get("gradient_draws")) is not None}
    both = _estimated_and_not(perturbed)
    settings = {
        entry.record.key: {
            **entry.params,
            **_gradient_draws(entry, given),
            **_estimate(entry, both),
            **_version(entry, "perturbation"),
        }
        for entry in perturbed
    }
    return _by_params(
        perturbed,
        "perturbation",
        settings,
        lambda e: (e.labels["perturbation"], e.labels["norm"]),
        lambda e: (e.labels["eps"], e.labels["severity"]),
        # an angle alone does not say how far an image may be moved
        lambda e: {"translation"} if e.labels["norm"] == "spatial" else set(),
    )


def _estimate(entry: Entry, both: set[str]) -> dict[str, Any]:
    """Return how closely a record estimates, where the same was measured otherwise too: its name has to say so."""
    asked = entry.record.spec.get("estimate")
    if not isinstance(asked, dict) or _but_for_estimate(entry) not in both:
        return {}
    return {"estimate": asked.get("half_width")}


def _estimated_and_not(entries: list[Entry]) -> set[str]:
    """Return what was measured several times, at different half-widths or also on all images."""
    uses = Counter(_but_for_estimate(entry) for entry in entries)
    return {one for one, count in uses.items() if count > 1}


def _but_for_estimate(entry: Entry) -> str:
    return content_key({part: value for part, value in entry.record.spec.items() if part != "estimate"})


def _gradient_draws(entry: Entry, given: set[int]) -> dict[str, Any]:
    """Return how many draws a gradient is averaged over, if told; where nothing is drawn, the one number of the rest:
    it would be the same attack.
    """
    spec = entry.record.spec
    if "gradient_draws" in spec:
        return {"gradient_draws": spec["gradient_draws"]}
    draws = spec.get("draws") is not None and entry.labels["access"] != "transfer"
    return {"gradient_draws": min(given)} if len(given) == 1 and not draws else {}


def _by_params(
    entries: list[Entry],
    column: str,
    settings: dict[str, dict[str, Any]],
    name: Callable[[Entry], object],
    strength: Callable[[Entry], object],
    always: Callable[[Entry], set[str]] = lambda _: set(),
) -> _Names:
    """Show, in every use of a name, the parameters that differ between settings of the same strength, and those that
    are ``always`` shown.
    """
    groups: dict[object, dict[object, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        groups[name(entry)][strength(entry)].append(settings[entry.record.key])
    shown = {
        group: sorted({parameter for same in by_strength.values() for parameter in differing(same)})
        for group, by_strength in groups.items()
    }
    return {
        entry.record.key: {
            column: with_params(
                entry.labels[column],
                settings[entry.record.key],
                sorted({*shown[name(entry)], *(always(entry) & settings[entry.record.key].keys())}),
            )
        }
        for entry in entries
    }


def _version(entry: Entry, part: str) -> dict[str, Any]:
    described = entry.record.spec.get(part)
    return {"version": described["version"]} if isinstance(described, dict) and "version" in described else {}


def _the_rest(entries: list[Entry]) -> _Names:
    """Name what it is that differs where two still look the same; a piece of the key, if that is in no words."""
    looks: dict[object, list[Entry]] = defaultdict(list)
    for entry in entries:
        looks[tuple(value for name, value in entry.labels.items() if not name.endswith("params"))].append(
            entry
        )
    names: _Names = {}
    for same in looks.values():
        if len(same) > 1:
            things = {entry.record.key: [entry] for entry in same}
            words = _words(same[0].labels["perturbation"], things, (_computed, _run))
            names |= {key: {"perturbation": word} for key, word in words.items()}
    return names


def _substituted(entries: list[Entry]) -> _Names:
    """Name what stood in for parts that are not defined for a model's few classes, as the record tells it."""
    names: _Names = {}
    for entry in entries:
        if words := substitute_of(entry.record):
            name = entry.labels["perturbation"]
            told = f"{name[:-1]}, {words})" if name.endswith(")") else f"{name} ({words})"
            if "(" in words:  # no brackets in brackets
                told = f"{name} {words}"
            names[entry.record.key] = {"perturbation": told}
    return names


def _computed(entry: Entry) -> _Facts:
    """All that decides a record's numbers, long values cut short."""
    return {
        name: value[:6] if isinstance(value, str) and len(value) == 64 else value
        for name, value in _flat(entry.record.spec)
    }
