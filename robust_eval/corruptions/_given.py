"""Corruptions that are read from files instead of made, such as those of CIFAR-10-C.

What is measured is the very images of the files. Labels and clean images are those of the measured set, which the files
must be of. A given corruption is known in a record's key by its type, its severity and the hash of its images, wherever
the files lie; a report calls it by its type, like one that is made, with the folder's name as a parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from robust_eval.data import Examples, as_pixels
from robust_eval.data.corrupted import Block, CorruptedFiles, known_types
from robust_eval.errors import ConfigError, DataError
from robust_eval.methods import Corruption
from robust_eval.registry import Description, describe, register
from robust_eval.rng import Rng
from robust_eval.types import Images, Severity

__all__ = ["Given", "given", "given_tables"]

Table = dict[str, Any]


# the colon keeps it out of the names to choose from: files are needed to make one
@register("corruption", "given:files")
@dataclass(frozen=True, kw_only=True)
class Given(Corruption):
    """The corrupted images of a file, in place of those measured."""

    group: ClassVar[str] = "files"
    at_once: ClassVar[int] = 1 << 22  # enough image files for all threads that decode

    type: str
    """Name of the corruption that the files are of."""
    severity: Severity
    sha256: str
    """Of the corrupted images that are measured."""
    files: str = field(metadata={"identity": False})
    """Name of their folder."""
    read: Callable[..., Any] = field(metadata={"identity": False}, repr=False, compare=False)
    """Maps positions among the measured images to the corrupted ones, uint8 [m,c,h,w]."""

    @classmethod
    def of(cls, block: Block) -> Given:
        """Return the corruption that a block of files holds."""
        return cls(**{part.name: getattr(block, part.name) for part in dataclasses.fields(block)})

    @property
    def shown(self) -> Description:
        """What a report calls it."""
        return Description("corruption", self.type, {"severity": self.severity, "files": self.files}, 1)

    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Return the files' images at the positions that ``rng`` carries; ``x`` only says where they go."""
        assert rng.index is not None
        found = as_pixels(self.read(rng.index.cpu().numpy().astype(np.int64)))
        if found.shape != x.shape:
            raise DataError(
                f"corruption {self.type!r} from {self.files}: expected images of {list(x.shape)}, "
                f"got {list(found.shape)}; measure the set that the files were made from"
            )
        return found.to(x)


def given_tables(found: CorruptedFiles, asked: Sequence[str | Mapping[str, Any]]) -> list[str | Table]:
    """Return the ``[[corruption]]`` tables to read from files: all types if none is asked for, and all severities of a
    type whose table names none. Tables of corruptions without severities stay as they are.

    Raises ``ConfigError`` for a type or severity that is not there, and for fields of a corruption that is made.
    """
    problems: list[str] = []
    tables: list[str | Table] = []
    known, there = known_types(), found.severities
    for table in asked or list(there):
        fields: Table = {"name": table} if isinstance(table, str) else dict(table)
        if (name := fields.get("name")) not in known:
            tables.append(fields)
            continue
        if name not in there:
            problems.append(
                f"corruption {name!r}: expected files of it in {found.folder}, got {', '.join(there)}; "
                "leave it out, or leave corrupted out to make them all"
            )
            continue
        if others := sorted(set(fields) - {"name", "severity"}):
            problems.append(
                f"corruption {name!r}: {', '.join(others)}: expected nothing but a severity, since it is read from "
                f"{found.folder}, not made; leave it out"
            )
        asked_for = fields.setdefault("severity", list(there[name]))
        for severity in asked_for if isinstance(asked_for, list) else [asked_for]:
            if severity in (1, 2, 3, 4, 5) and severity not in there[name]:
                problems.append(
                    f"corruption {name!r}: severity: expected one of {', '.join(map(str, there[name]))}, of which "
                    f"there are files in {found.folder}, got {severity}"
                )
        tables.append({"name": name, "severity": fields["severity"]})
    if problems:
        raise ConfigError(problems)
    return tables


def given(
    found: CorruptedFiles, corruptions: Sequence[Corruption], examples: Examples
) -> tuple[Corruption, ...]:
    """Return the corruptions with those that have severities read from files; raises ``ConfigError`` with all that is
    wrong with them.
    """
    made: list[Corruption] = []
    problems: dict[str, dict[str, None]] = {}
    for corruption in corruptions:
        name, severity = describe(corruption).name, getattr(corruption, "severity", None)
        if severity is None:
            made.append(corruption)
            continue
        try:
            made.append(Given.of(found.block(name, severity, examples)))
        except DataError as error:
            place, _, text = str(error).partition(": ")
            problems.setdefault(text, {})[place] = None
    if problems:
        raise ConfigError(f"{_places(list(places))}: {text}" for text, places in problems.items())
    return tuple(made)


def _places(places: Sequence[str]) -> str:
    """Return what one thing is wrong with: a wrong size is that of all blocks."""
    first, *others = places
    return first if not others else f"{first} and {len(others)} other{'s' if others[1:] else ''}"
