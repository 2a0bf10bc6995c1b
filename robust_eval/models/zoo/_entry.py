"""The table of prefixes: where a network comes from that is neither an architecture of ours nor a file of code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torch import nn

from robust_eval.data import Interpolation, Resize
from robust_eval.errors import ConfigError
from robust_eval.models._names import Beside

__all__ = [
    "ENTRIES",
    "Brought",
    "Entry",
    "Preprocessing",
    "Wanted",
    "behind",
    "package",
    "refuse_arguments",
]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for behind a prefix."""

    prefix: str
    name: str
    """What stands behind the prefix, without arguments."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    weights: str | None = None
    """Where in the checkpoint the weights lie."""
    download: bool = False
    """Whether weights that are not here may be fetched."""

    @property
    def spec(self) -> str:
        """As it was written, without arguments."""
        return f"{self.prefix}:{self.name}"


class Preprocessing(NamedTuple):
    """How the images of a model are made, as its package says."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    said_by: str = ""
    """Where mean and std come from, in words."""
    size: int | None = None
    """Side in pixels of what is cropped at the centre."""
    resize: Resize | None = None
    """Shorter side before the crop; ``squash`` resizes both sides to ``size``."""
    interpolation: Interpolation | None = None

    def beside(self, found: Beside | None) -> Preprocessing:
        """Return it with the mean and std of a file, where it holds some beside the weights."""
        if found is None:
            return self
        return self._replace(
            mean=tuple(found.mean),
            std=tuple(found.std),
            said_by=f"what lies beside its weights ({found.place or 'mean'})",
        )


class Brought(NamedTuple):
    """A network with its weights."""

    network: nn.Module
    described: dict[str, Any]
    """What decides its outputs beside the weights."""
    preprocessing: Preprocessing = Preprocessing()
    class_names: tuple[str, ...] | None = None
    weights_sha256: str | None = None
    """Of the file that the weights came from; ``None`` where that is the checkpoint, or no single file."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A prefix, and what gives the network behind it."""

    prefix: str
    about: str
    """One line for the list of what there is."""
    bring: Callable[[Wanted], Brought]
    preprocessing: Callable[[Wanted], Preprocessing]
    """What can be told of the images before the network is made."""
    path: bool
    """Whether a path stands behind the prefix, which has no arguments then."""
    program: bool
    """Whether a program in a file is run."""


ENTRIES: dict[str, Entry] = {}

Bring = Callable[[Wanted], Brought]


def behind(
    prefix: str,
    *,
    about: str,
    path: bool = False,
    program: bool = False,
    preprocessing: Callable[[Wanted], Preprocessing] = lambda wanted: Preprocessing(),
) -> Callable[[Bring], Bring]:
    """Return a decorator for the function that gives the network behind a prefix."""

    def decorate(bring: Bring) -> Bring:
        ENTRIES[prefix] = Entry(
            prefix=prefix,
            about=about,
            bring=bring,
            preprocessing=preprocessing,
            path=path,
            program=program,
        )
        return bring

    return decorate


def package(name: str, *, extra: str, spec: str) -> ModuleType:
    """Import a package that is installed on demand; raises ``ConfigError`` with the extra that holds it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{spec}: expected the package {name.partition('.')[0]}, which cannot be imported ({reason}); "
            f"pip install 'robust-eval[{extra}]'"
        ) from None


def refuse_arguments(wanted: Wanted, *, checkpoint: bool = True) -> None:
    """Raise ``ConfigError`` for what a file that holds everything leaves no room for."""
    if checkpoint and wanted.checkpoint is not None:
        raise ConfigError(
            f"{wanted.spec}: expected it alone, as the weights are in it, got a checkpoint as well "
            f"({wanted.checkpoint}); leave one of them out"
        )
    if wanted.weights is not None:
        raise ConfigError(f"{wanted.spec}: --weights names a part of a checkpoint; leave it out here")
