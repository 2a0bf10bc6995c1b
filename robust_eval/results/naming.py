"""What shares a name and is not the same gets names of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from robust_eval.identity import content_key
from robust_eval.results.entry import Entry
from robust_eval.results.names import differing, with_params


def tell_apart(entries: list[Entry]) -> list[Entry]:
    """Rename models, data sets, defenses and perturbations that share a name and are not the same."""
    for rename in (_models, _data, _defenses, _perturbations, _the_rest):
        names = rename(entries)
        entries = [replace(e, labels={**e.labels, **names.get(e.record.key, {})}) for e in entries]
    return entries


__all__ = ["tell_apart"]

_Names = dict[str, dict[str, str]]


def _models(entries: list[Entry]) -> _Names:
    return _by_hash(entries, "model", _identity)


def _identity(entry: Entry) -> str:
    """Return what a model is: the same for one recipe trained with several seeds."""
    model = entry.record.spec.get("model")
    if isinstance(model, dict) and isinstance(model.get("recipe"), dict):
        recipe = {name: value for name, value in model["recipe"].items() if name != "seed"}
        return content_key({**model, "recipe": recipe})
    return str(entry.record.labels.get("model_key") or "unknown")


def _data(entries: list[Entry]) -> _Names:
    return _by_hash(entries, "data", lambda e: content_key(e.record.spec.get("data") or {}))


def _by_hash(entries: list[Entry], column: str, identity: Callable[[Entry], str]) -> _Names:
    meant: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        meant[entry.labels[column]].add(identity(entry))
    return {
        entry.record.key: {column: f"{entry.labels[column]} [{identity(entry)[:6]}]"}
        for entry in entries
        if len(meant[entry.labels[column]]) > 1
    }


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
    settings = {
        entry.record.key: {
            **entry.params,
            **_gradient_draws(entry, given),
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
    """Put a piece of the key behind what still looks the same, whatever it is that differs."""
    looks: dict[object, list[Entry]] = defaultdict(list)
    for entry in entries:
        looks[tuple(value for name, value in entry.labels.items() if not name.endswith("params"))].append(
            entry
        )
    return {
        entry.record.key: {"perturbation": f"{entry.labels['perturbation']} [{entry.record.key[:6]}]"}
        for same in looks.values()
        if len(same) > 1
        for entry in same
    }
