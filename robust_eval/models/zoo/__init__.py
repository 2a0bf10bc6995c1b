"""Networks of other libraries and programs in files, each kind behind a prefix such as ``timm:NAME``; one file each.

A file of this package registers its prefix with a decorator, and everything else follows: loading, the list of what
there is, what runs code, what is a path.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_eval.errors import THEIRS, CheckpointError, ConfigError, RobustEvalError
from robust_eval.models.call import Call, call_in
from robust_eval.models.zoo._entry import ENTRIES, Brought, Entry, Preprocessing, Wanted
from robust_eval.registry import discover

__all__ = [
    "ENTRIES",
    "Brought",
    "Entry",
    "Preprocessing",
    "bring",
    "call_of",
    "entry_of",
    "known",
    "preprocessing_of",
]

discover(sys.modules[__name__])


def known() -> list[str]:
    """Return a line for each prefix."""
    return [f"{entry.prefix}:{entry.about}" for _, entry in sorted(ENTRIES.items())]


def entry_of(architecture: object) -> Entry | None:
    """Return what gives the network that an architecture's name, or a table with one, has a prefix of."""
    if isinstance(architecture, Mapping):
        architecture = architecture.get("name")
    if not isinstance(architecture, str):
        return None
    prefix, colon, _ = architecture.partition(":")
    return ENTRIES.get(prefix) if colon else None


def call_of(entry: Entry, architecture: str | Mapping[str, Any]) -> Call:
    """Return the name behind the prefix, and the arguments: those in brackets, and the other fields of a table."""
    fields = {"name": architecture} if isinstance(architecture, str) else dict(architecture)
    name = fields.pop("name").removeprefix(f"{entry.prefix}:")
    call = Call(name, {}) if entry.path else call_in(name)
    if entry.path and fields:
        raise ConfigError(
            f"{entry.prefix}:{name}: expected no fields, got {', '.join(fields)}; leave them out"
        )
    return Call(call.target, call.arguments | fields)


def bring(
    architecture: str | Mapping[str, Any], *, checkpoint: Path | None, weights: str | None, download: bool
) -> Brought:
    """Return the network with its weights; raises ``RobustEvalError``, one line, for what does not fit."""
    entry, wanted = _wanted(architecture, checkpoint, weights, download)
    try:
        return entry.bring(wanted)
    except RobustEvalError:
        raise
    except THEIRS as error:
        raise CheckpointError(f"{wanted.spec}: cannot be made ({_said(error)})") from None


def preprocessing_of(
    architecture: str | Mapping[str, Any], *, checkpoint: Path | None, weights: str | None
) -> Preprocessing:
    """Return how the images of a model are made, as far as that is known before it is loaded."""
    entry, wanted = _wanted(architecture, checkpoint, weights, False)
    try:
        return entry.preprocessing(wanted)
    except RobustEvalError:
        raise
    except THEIRS as error:
        raise CheckpointError(f"{wanted.spec}: cannot be looked up ({_said(error)})") from None


def _wanted(
    architecture: str | Mapping[str, Any], checkpoint: Path | None, weights: str | None, download: bool
) -> tuple[Entry, Wanted]:
    entry = entry_of(architecture)
    assert entry is not None
    call = call_of(entry, architecture)
    if not call.target:
        raise ConfigError(
            f"{entry.prefix}: expected {entry.prefix}:{entry.about}, got nothing behind the prefix"
        )
    return entry, Wanted(
        prefix=entry.prefix,
        name=call.target,
        arguments=call.arguments,
        checkpoint=checkpoint,
        weights=weights,
        download=download,
    )


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else text[:197] + "..."
    return ": ".join(filter(None, (type(error).__name__, text)))
