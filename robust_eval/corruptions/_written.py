"""Corrupted test images are written to files, in the layout of CIFAR-10-C.

``TYPE.npy`` is uint8 [5n,h,w,c], severities 1 to 5 one after the other; ``labels.npy`` [5n] holds the labels five
times. ``corruptions.json`` says what they are. The draws are those of an evaluation with the same seed, so that the
images are the evaluated ones, rounded to the nearest of 256 levels. (The script behind CIFAR-10-C cuts off instead of
rounding.)

A file is written part by part under a temporary name, and renamed when it is whole. It is written and not mapped: a
full disk is then an error and not the end of the process. What is there already is left as it is if its hash is that of
the notes, and written anew if not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from io import BytesIO
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0

from robust_eval.corruptions._severity import Published, parameters
from robust_eval.data import Examples
from robust_eval.data._corrupted_notes import NOTES, hashes_of_first, levels, sha256_of
from robust_eval.errors import ConfigError, DataError
from robust_eval.files import alone, atomic_path, sweep, write_text
from robust_eval.methods import Corruption
from robust_eval.paths import what_is
from robust_eval.registry import describe
from robust_eval.rng import Rng

__all__ = ["NOTES", "Written", "write"]

AT_ONCE = 1 << 22
"""Values corrupted before they are written: bounds memory."""
FIVE = 5
LOCK = ".corruptions.lock"
"""Held while the notes are written: several processes may share a folder."""
DRAWN_FROST = "its textures are drawn by rule: they are not the published photographs"


class Written(NamedTuple):
    """A type that is in its file."""

    type: str
    sha256: str
    """Of the file."""
    was: Literal["missing", "there", "damaged"]
    """A damaged file is written anew."""


def write(
    folder: Path, corruptions: Mapping[str, Sequence[Corruption]], name: str, examples: Examples, *, seed: int
) -> Iterator[Written]:
    """Write each type's corruptions, severities 1 to 5, of all images; yield each type when it is whole.

    Raises ``ConfigError`` before anything is written for a folder that holds other files of these names or those of
    other images or another seed, for a disk that is too small and, with a line for each, for corruptions that cannot be
    made of these images.
    """
    channels, height, width = examples.shape
    shape = (FIVE * len(examples), height, width, channels)
    notes: dict[str, Any] = {
        "made_by": f"robust-eval {version('robust-eval')}",
        "note": "generated anew by the published rules and parameters, with other draws: not the published files",
        "layout": f"TYPE.npy: uint8 {list(shape)}, severities 1 to 5 in blocks of {len(examples)}; labels.npy: "
        f"[{FIVE * len(examples)}], repeated",
        "rounding": "to the nearest of 256 levels",
        "seed": seed,
        "source": {"name": name, "n": len(examples), "fingerprint": examples.fingerprint},
        "sha256_of_first": hashes_of_first(examples),
    }
    sweep(folder)
    before = _types_before(folder, notes, corruptions)
    wanted = {name: _entry(name, of, min(height, width)) for name, of in corruptions.items()}
    there = [
        name
        for name, entry in before.items()
        if name in wanted
        and {**entry, "sha256": None} == {**wanted[name], "sha256": None}
        and (folder / f"{name}.npy").is_file()
    ]
    damaged = {name for name in there if sha256_of(folder / f"{name}.npy") != before[name].get("sha256")}
    missing = {name: of for name, of in corruptions.items() if name not in there or name in damaged}
    _require_possible(missing, examples)
    _require_room(folder, len(missing) * int(np.prod(shape)))
    types = {name: entry for name, entry in before.items() if name not in missing}
    # before any other file, so that all of them are known as our own
    _write_notes(folder, notes, types, missing)
    _write_labels(folder, examples)
    for name in corruptions:
        if name in missing:
            sha256 = _write_type(folder / f"{name}.npy", missing[name], examples, shape, seed)
            types[name] = {**wanted[name], "sha256": sha256}
            _write_notes(folder, notes, types, missing)
        was: Literal["missing", "there", "damaged"] = "damaged" if name in damaged else "there"
        yield Written(name, types[name]["sha256"], was if name in there else "missing")


def _types_before(folder: Path, notes: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the folder's notes say of each type; raises ``ConfigError`` where they are of other images."""
    path = folder / NOTES
    for name in (NOTES, "labels.npy", *(f"{name}.npy" for name in types)):
        if (lies := what_is(folder / name)) not in ("a file", "none"):
            raise ConfigError(f"--out {folder}: expected a file {name}, got {lies}; give another folder")
    if not path.exists():
        others = [f"{name}.npy" for name in (*types, "labels") if (folder / f"{name}.npy").exists()]
        if others:
            raise ConfigError(
                f"--out {folder}: expected no {others[0]} that another program wrote, got one without {NOTES}; "
                "give another folder"
            )
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        before, types_before = (found["source"], found["seed"]), dict(found["types"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"--out {folder}: {NOTES} cannot be read; give another folder") from None
    if before != (notes["source"], notes["seed"]):
        here = f"{before[0].get('n')} images of {before[0].get('name')} with seed {before[1]}"
        raise ConfigError(
            f"--out {folder}: expected corrupted images of the same set and seed, or an empty folder, got some of "
            f"{here}; give another folder"
        )
    return types_before


def _entry(name: str, corruptions: Sequence[Corruption], side: int) -> dict[str, Any]:
    """Return what the notes say of a type, as it is read back from JSON."""
    described = [describe(corruption) for corruption in corruptions]
    entry: dict[str, Any] = {
        "version": described[0].version,
        "severities": {
            str(each.params["severity"]): _parameters(each.params, name, c, side)
            for each, c in zip(described, corruptions, strict=True)
        },
    }
    if name == "frost":
        entry["note"] = (
            DRAWN_FROST if getattr(corruptions[0], "textures", None) is None else "its textures were given"
        )
    return dict(json.loads(json.dumps(entry)))


def _parameters(params: dict[str, Any], name: str, corruption: Corruption, side: int) -> dict[str, Any]:
    fields = {key: value for key, value in params.items() if key != "severity"}
    if isinstance(corruption, Published):
        fields["strength"] = list(parameters(name, corruption.side or side, corruption.severity))
    return fields


def _require_possible(corruptions: Mapping[str, Sequence[Corruption]], examples: Examples) -> None:
    """Raise what the corruptions say to the first image, rather than after an hour."""
    first = examples.pixels(slice(0, 1))
    problems = []
    for of in corruptions.values():
        for corruption in of:
            try:
                corruption(first, rng=Rng(0))
            except ConfigError as error:
                problems += error.problems
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def _require_room(folder: Path, needed: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made ({error.strerror}); give another folder") from None
    if needed > (free := shutil.disk_usage(folder).free):
        raise ConfigError(
            f"--out {folder}: expected room for {_bytes(needed)}, got {_bytes(free)}; "
            "name fewer corruptions or images, or give a folder on another disk"
        )


def _bytes(n: int) -> str:
    size, unit = (1e9, "GB") if n >= 1e9 else (1e6, "MB") if n >= 1e6 else (1e3, "kB")
    return f"{n / size:.1f} {unit}"


def _write_notes(
    folder: Path, notes: Mapping[str, Any], types: Mapping[str, Any], own: Collection[str]
) -> None:
    """Write the notes with what is whole; types that other processes wrote meanwhile stay, ``own`` ones are ours."""
    with alone(folder / LOCK):
        theirs = {name: entry for name, entry in _types_now(folder).items() if name not in own}
        text = json.dumps({**notes, "types": dict(sorted({**theirs, **types}.items()))}, indent=2)
        write_text(folder / NOTES, text + "\n")


def _types_now(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / NOTES).read_text(encoding="utf-8"))["types"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_labels(folder: Path, examples: Examples) -> None:
    labels = np.tile(examples.labels.cpu().numpy().astype(np.int64), FIVE)
    with atomic_path(folder / "labels.npy") as temporary, temporary.open("wb") as file:
        np.save(file, labels)


def _write_type(
    path: Path, corruptions: Sequence[Corruption], examples: Examples, shape: tuple[int, ...], seed: int
) -> str:
    """Write one file and return its sha256."""
    digest = hashlib.sha256()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for part in chain([_header(shape)], _blocks(corruptions, examples, seed)):
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


def _blocks(corruptions: Sequence[Corruption], examples: Examples, seed: int) -> Iterator[bytes]:
    n, size = len(examples), max(1, AT_ONCE // int(np.prod(examples.shape)))
    bounds = list(pairwise([*range(0, n, size), n]))
    for corruption in corruptions:
        parts = [slice(start, stop) for start, stop in bounds]
        for part, x in zip(parts, examples.batches(parts), strict=True):
            # the stream that an evaluation hands to corruptions
            rng = Rng(seed).rows(torch.arange(part.start, part.stop)).child("corruption")
            yield levels(corruption(x, rng=rng)).tobytes()


def _header(shape: tuple[int, ...]) -> bytes:
    stream = BytesIO()
    write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()
