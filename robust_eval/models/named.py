"""What an architecture's name says by itself: whether it gives a network, where its file lies, what it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robust_eval.models.call import call_in
from robust_eval.models.factory import is_factory
from robust_eval.models.zoo import call_of, entry_of

__all__ = ["file_named", "from_anywhere", "gives_network", "runs_code", "short_name"]


def gives_network(architecture: object) -> bool:
    """Whether it is a factory's or stands behind a prefix, and is no architecture of ours."""
    return is_factory(architecture) or entry_of(architecture) is not None


def from_anywhere(architecture: Any, absolute: Callable[[str], str]) -> Any:
    """Return it with the path in it made absolute; one without a path as it is."""
    entry = entry_of(architecture)
    if isinstance(architecture, Mapping):
        return (
            {**architecture, "name": from_anywhere(architecture["name"], absolute)} if entry else architecture
        )
    if is_factory(architecture):
        return absolute(str(architecture))
    if entry is not None and entry.path:
        return f"{entry.prefix}:{absolute(call_of(entry, architecture).target)}"
    return architecture


def file_named(architecture: object) -> str | None:
    """Return the file of a factory, without its arguments; ``None`` for what is none."""
    if not is_factory(architecture):
        return None
    target = call_in(str(architecture)).target
    return target.rpartition(":")[0] or target


def runs_code(architecture: object) -> str | None:
    """Return what would run code, as it was written; ``None`` where nothing would."""
    entry = entry_of(architecture)
    if isinstance(architecture, Mapping):
        architecture = architecture.get("name")
    return str(architecture) if is_factory(architecture) or (entry and entry.program) else None


def short_name(architecture: str) -> str:
    """Return what a model is called after its architecture: the function, the network behind a prefix, or the file."""
    if (entry := entry_of(architecture)) is None:
        return call_in(architecture).target.rpartition(":")[2] if is_factory(architecture) else architecture
    target = call_of(entry, architecture).target
    return Path(target).stem if entry.path and entry.program else Path(target).name if entry.path else target
