"""Which image files a folder of classes holds, and in which order: class by class, then shuffled once for all.

Classes are numbered in alphabetical order; folders whose names are all numbers, as numbers (``2`` comes before ``10``)
unless the order of text is asked for, in which other loaders sort them.
Links to folders are followed, and each folder is looked into once; hidden folders are left out.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from robust_eval.errors import DataError
from robust_eval.paths import shown, what_is
from robust_eval.rng import Rng

__all__ = [
    "ENDINGS",
    "ClassOrder",
    "File",
    "in_class_folders",
    "other_order",
    "readable",
    "shuffled",
    "sub_folders",
]

log = logging.getLogger(__name__)

ClassOrder = Literal["numbers", "text"]
"""How classes are numbered whose folders' names are all numbers."""
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ENOUGH = 10_000
"""Files without an image among them after which a folder is no class."""


class File(NamedTuple):
    """An image file and the number of its class."""

    path: Path
    label: int


def sub_folders(folder: Path, order: ClassOrder | None = None) -> list[str]:
    """Return the names of the sub-folders, hidden ones left out: in the order of text, or of numbers where all are.

    Without an ``order``, numbers are sorted as such, and it is said where that makes a difference. Raises
    ``DataError`` for a folder that cannot be looked into.
    """
    try:
        found = [child.name for child in folder.iterdir() if child.name[0] != "." and child.is_dir()]
    except OSError as error:
        raise DataError(f"data {shown(folder)}: cannot be looked into ({error.strerror})") from None
    as_text = sorted(found)
    if order == "text" or not _are_numbers(found):
        return as_text
    as_numbers = sorted(found, key=int)
    if order is None and as_numbers != as_text:
        _say_order(as_numbers[0], as_numbers[-1])
    return as_numbers


def other_order(classes: Sequence[str]) -> tuple[ClassOrder, list[str]] | None:
    """Return the order that classes in the order of numbers, or of text, are not in; ``None`` where both are one."""
    if not _are_numbers(classes):
        return None
    as_numbers, as_text = sorted(classes, key=int), sorted(classes)
    if as_numbers == as_text:
        return None
    return ("text", as_text) if list(classes) == as_numbers else ("numbers", as_numbers)


def _are_numbers(names: Sequence[str]) -> bool:
    """Whether names have an order as numbers; 1 and 01 have none."""
    numbers = all(name.isascii() and name.isdecimal() and len(name) < 20 for name in names)
    return numbers and len(set(map(int, names))) == len(names)


@functools.cache
def _say_order(first: str, last: str) -> None:
    """Say once how the classes are numbered: other loaders sort such names as text."""
    log.warning(
        "class folders %s to %s are in the order of their numbers (2 before 10), not in that of the alphabet; a "
        "model trained in the other one needs class_order = 'text' in [data] (--class-order text)",
        first,
        last,
    )


def in_class_folders(folder: Path, classes: Sequence[str]) -> list[File]:
    """Return the images in the sub-folders of these names, class by class, at any depth.

    Raises ``DataError`` where there are none, where a class has files and none of them is an image of a known kind, and
    for what would be waited on for ever.
    """
    files: list[File] = []
    for label, name in enumerate(classes):
        paths, others = _images_in(folder / name)
        if others and not paths:
            listed = ", ".join(f"{count} {ending}" for ending, count in others.most_common(3))
            raise DataError(
                f"data {shown(folder)}: expected images ({', '.join(sorted(ENDINGS))}) in the class folder "
                f"{readable(name)}, got {listed}; convert them, or move the folder away"
            )
        files += [File(path, label) for path in paths]
    if not files:
        got = f"no image in {len(classes)} sub-folders" if classes else "no sub-folder"
        raise DataError(
            f"data {shown(folder)}: expected one sub-folder of images per class, got {got}{_loose(folder)}"
        )
    return files


def shuffled(files: Sequence[File]) -> list[File]:
    """Return the files in a fixed shuffled order: sorted by class, the first of them would be one class."""
    return [files[i] for i in Rng(0, ("folder",)).numpy().permutation(len(files))]


def readable(name: str) -> str:
    """Return a name as text that can be written down: bytes that are not UTF-8 are spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _images_in(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Return the image files below a folder, sorted, and how many others there are of each ending.

    Where there are others only, few of them are looked at.
    """
    paths: list[Path] = []
    others: Counter[str] = Counter()
    for path, regular in _walked(folder):
        ending = path.suffix.lower()
        if ending not in ENDINGS:
            if path.name[0] != ".":
                others[ending or "without an ending"] += 1
            if not paths and others.total() >= ENOUGH:
                break
        elif regular or (found := what_is(path)) == "a file":
            paths.append(path)
        else:
            raise DataError(f"data: expected an image file, got {found}: {shown(path)}; remove it")
    return sorted(paths), others


def _walked(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield what is no folder below one, and whether it is known to be a regular file.

    Each folder is looked into once, however many links lead to it; by its own name, where it has one here.
    """
    seen: set[tuple[int, int]] = set()
    links = [folder]
    while links:
        waiting = [links.pop(0)]
        while waiting:
            place = waiting.pop()
            entries = _entries(place, seen)
            for entry in entries:
                if not entry.is_dir():
                    yield Path(entry.path), entry.is_file(follow_symlinks=False)
                elif entry.name[0] != ".":
                    (links if entry.is_symlink() else waiting).append(Path(entry.path))
        links.sort()


def _entries(folder: Path, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """Return what lies in a folder; nothing for one that is not there, or was looked into before."""
    try:
        status = folder.stat()
        if (here := (status.st_dev, status.st_ino)) in seen:
            return []
        seen.add(here)
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"data: {shown(folder)} cannot be looked into ({error.strerror})") from None


def _loose(folder: Path) -> str:
    """Return what is missing where images lie in a folder without class folders, as unlabelled test sets do."""
    try:
        n = sum(child.suffix.lower() in ENDINGS for child in folder.iterdir())
    except OSError:
        return ""
    if not n:
        return ""
    return (
        f", and {n} images without a class: nothing says which class they are of; sort them into folders of the "
        "classes, or name a folder that has such (a validation split)"
    )
