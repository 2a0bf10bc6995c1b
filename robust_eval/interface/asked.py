"""What arguments of Python's :func:`robust_eval.evaluate` mean, in the words of the command's options."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch

from robust_eval.classifier import Classifier
from robust_eval.classifier.given import device_of
from robust_eval.config.options import model_table
from robust_eval.data import Examples
from robust_eval.data.given import given_images
from robust_eval.errors import ConfigError
from robust_eval.files import sweep
from robust_eval.models.function import as_network
from robust_eval.models.given import called_after
from robust_eval.models.named import short_name
from robust_eval.paths import is_file, misnamed, shown, what_is
from robust_eval.registry import describe
from robust_eval.results.store import Store

__all__ = [
    "Asked",
    "asked_models",
    "eps_text",
    "folder_at",
    "is_name",
    "names_in",
    "place_of",
    "pool_of",
    "tables_in",
]


def is_name(thing: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether it is the name or path of something rather than the thing itself."""
    return isinstance(thing, str | os.PathLike)


class Asked(NamedTuple):
    """The models to measure."""

    given: dict[str, Any]
    """Networks, classifiers and functions by name."""
    named: dict[str, dict[str, Any]]
    """Tables of those that lie in files, by name."""


def eps_text(eps: str | float) -> str:
    """Return a radius as the options have it."""
    return eps if isinstance(eps, str) else repr(float(eps))


def asked_models(
    model: Any,
    *,
    name: str | None,
    arch: Any,
    mean: Any,
    std: Any,
    weights: Any,
    download: bool,
    fields: dict[str, dict[str, Any]],
) -> Asked:
    """Return the models by name; raises ``ConfigError`` for what is none.

    ``mean`` and ``std`` go into the tables of those that lie in files, as ``weights``, ``download`` and ``arch`` do,
    whose own are taken out of ``fields``.
    """
    for option, text in (("arch", arch), ("weights", weights)):
        if text is not None and not isinstance(text, str):
            raise ConfigError(f"{option}: expected a name, got {type(text).__name__}")
    several = isinstance(model, Mapping) and not _is_weights(model)
    models = dict(model) if several else {_called(model, name): model}
    if not models:
        raise ConfigError("model: expected a network, or several by name, got none")
    asked = Asked({}, {})
    for title, one in models.items():
        if not isinstance(title, str) or not title:
            raise ConfigError(f"model: expected names of models, got {title!r}")
        if is_name(one):
            table = _table(os.fspath(one), arch, weights, download, dict(fields))
            numbers = {"mean": _numbers("mean", mean), "std": _numbers("std", std)}
            asked.named[title] = table | {"name": title, **numbers}
        elif isinstance(one, torch.nn.Module | Classifier) or (callable(one) and not isinstance(one, type)):
            asked.given[title] = as_network(one)
        else:
            Classifier(one)  # says what it is and what to give
    if asked.named and arch is not None:
        fields.pop(arch, None)
    for option, value in (("arch", arch), ("weights", weights), ("download", download or None)):
        if value is not None and not asked.named:
            raise ConfigError(
                f"{option}: expected it with the path of a checkpoint, got a network; leave it out"
            )
    return asked


def _called(model: Any, name: str | None) -> str:
    if name is not None:
        return name
    if not is_name(model):
        return called_after(model)
    path = os.fspath(model)
    return short_name(path) if _is_architecture(path) else Path(path).stem


def _is_architecture(text: str) -> bool:
    """Whether it is ``timm:NAME`` or ``file.py:factory`` rather than the path of a file."""
    return ":" in text and not is_file(text)


def _table(
    path: str, arch: str | None, weights: str | None, download: bool, fields: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return the ``[[model]]`` table of a checkpoint's path, or of an architecture that brings its weights."""
    if not _is_architecture(path):
        return model_table(Path(path), arch, None, None, None, fields, weights=weights, download=download)
    if arch is not None:
        raise ConfigError(
            f"arch: expected it with the path of a checkpoint, got {path!r} beside it; give one of them"
        )
    return model_table(None, path, None, None, None, fields, download=download)


def _numbers(option: str, given: Any) -> list[float] | None:
    if given is None:
        return None
    try:
        return [float(given)] if isinstance(given, int | float) else [float(number) for number in given]
    except (TypeError, ValueError):
        raise ConfigError(f"{option}: expected numbers, one a channel, got {given!r}") from None


def _is_weights(model: Mapping[Any, Any]) -> bool:
    """Whether it is a network's weights rather than networks."""
    return any(isinstance(value, torch.Tensor) for value in model.values())


def place_of(models: Iterable[Any]) -> torch.device | None:
    """Return the device of the first model that is on one."""
    networks = [one.network if isinstance(one, Classifier) else one for one in models]
    found = [device_of(network) for network in networks if isinstance(network, torch.nn.Module)]
    return next((device for device in found if device is not None), None)


def pool_of(pool: Any) -> Examples:
    """Return training images that were given as a pair or a loader."""
    if isinstance(pool, tuple) and len(pool) == 2:
        return given_images("pool", *pool)
    return given_images("pool", pool, None)


def _several(given: Any) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def names_in(given: Any) -> str:
    """Return the names among the methods, as the options have them."""
    return ",".join(item for item in _several(given) if isinstance(item, str))


def tables_in(given: Any) -> list[dict[str, Any]]:
    """Return the tables of the methods that were given otherwise than by name."""
    tables: list[dict[str, Any]] = []
    for item in _several(given):
        if isinstance(item, Mapping):
            tables.append(dict(item))
        elif not isinstance(item, str):
            try:
                described = describe(item)
            except (KeyError, TypeError):
                raise ConfigError(
                    f"expected a method's name, such as 'pgd', a method or its table, got {type(item).__name__}"
                ) from None
            tables.append({"name": described.name, **described.params})
    return tables


def folder_at(out: str | os.PathLike[str]) -> Path:
    """Return the run folder, made where it is not there; raises ``ConfigError`` where it cannot be."""
    path = Path(out)
    if (problem := misnamed(path)) is not None:
        raise ConfigError(f"out: {problem}")
    if (lies := what_is(path)) not in ("a folder", "none"):
        raise ConfigError(f"out {shown(path)}: expected a folder, got {lies}; give another name")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"out {shown(path)}: cannot be made ({error.strerror}); give another folder"
        ) from None
    sweep(path, *Store.FOLDERS)
    return path
