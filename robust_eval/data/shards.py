"""WebDataset shards: tar files in which the files of one example have one name and different endings.

``0001.jpg`` with ``0001.cls`` (a number or a name) or ``0001.json`` (``label``, ``cls`` or ``class``). Several shards
are written ``train-{000..012}.tar``, or are a folder of tar files whose names begin with the split. What the tars hold
is listed once; images are read from their place when they are asked for, so that nothing is unpacked.
"""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import dataclass, field
from io import BytesIO
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from robust_eval.data._asked import Asked
from robust_eval.data._class_folders import File, sub_folders
from robust_eval.data._contents import Listing
from robust_eval.data._encoded import Encoded, Split, as_asked, split_of
from robust_eval.data._labels import numbered
from robust_eval.errors import DataError
from robust_eval.paths import is_file, is_folder, shown

__all__ = ["Shards", "recognised"]

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm", "tif", "tiff")
LABELS = ("cls", "json")
KEYS = ("label", "cls", "class")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST = 100_000
"""Shards that a pattern may stand for."""
LARGEST_LABEL = 1 << 20
"""Bytes of a file that holds a label."""


def recognised(asked: Asked) -> Shards | None:
    """Return the source of a tar file, a pattern of some or a folder of them, ``None`` for anything else."""
    compressed = asked.name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))
    tar = asked.path.suffix.lower() == ".tar" or compressed
    if tar and (asked.lies == "a file" or (RANGE.search(asked.name) and asked.lies == "none")):
        return Shards(**as_asked(asked))
    if asked.lies == "a folder" and _in_folder(asked.path) and not sub_folders(asked.path):
        return Shards(**as_asked(asked))
    return None


@dataclass(frozen=True)
class Members:
    """Images within tar files, by where they begin and how long they are."""

    places: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def open(self, path: Path) -> BytesIO:
        """Return the bytes of a member; the name of its tar is that of its folder."""
        start, size = self.places[path]
        with _shard_of(path).open("rb") as file:
            file.seek(start)
            content = file.read(size)
        if len(content) < size:
            raise OSError("the tar ends early")
        return BytesIO(content)

    def size(self, path: Path) -> int:
        """Return how many bytes an image takes."""
        return self.places[path][1]


@dataclass(frozen=True)
class Shards(Encoded):
    """One tar file, or several."""

    def _listing(self, split: Split) -> Listing | None:
        where = f"data {self.path}"
        if is_folder(self.path):
            found = _in_folder(self.path)
            names = split_of([file.name for file in found], split)
            files = [file for file in found if file.name in names]
            if not files and split == "test":
                raise DataError(
                    f"{where}: expected tars test-*.tar or val-*.tar, got training images alone; "
                    "name the tars to measure on them"
                )
        else:
            files = _expanded(self.path, where) if split == "test" else []
        if not files:
            return None
        members, paths, labels = Members(), [], []
        for file in files:
            for path, place, label in _samples(file):
                members.places[path] = place
                paths.append(path)
                labels.append(label)
        numbers = numbered(labels, where=where, at="example")
        listed = [File(path, number) for path, number in zip(paths, numbers.labels, strict=True)]
        return Listing(listed, numbers.classes, numbers.names, files[0].parent, members)


def _samples(shard: Path) -> list[tuple[Path, tuple[int, int], Any]]:
    """Return the images of a shard: a name below that of the tar, the place in it, and the label."""
    where = f"data {shard}"
    images: dict[str, tuple[Path, tuple[int, int]]] = {}
    labels: dict[str, Any] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                name = _safe(member, where)
                key, _, ending = name.name.partition(".")
                key, ending = str(name.with_name(key)), ending.lower()
                if ending in IMAGES:
                    images.setdefault(key, (shard / str(name), (member.offset_data, member.size)))
                elif ending in LABELS and (ending == "cls" or key not in labels):
                    labels[key] = _label(tar, member, where)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        packed = shard.suffix.lower() != ".tar"
        fix = (
            "unpack it to a plain .tar first (gunzip), images are compressed already"
            if packed
            else "save it again"
        )
        raise DataError(f"{where}: is no tar file that can be read ({error}); {fix}") from None
    if not images:
        raise DataError(
            f"{where}: expected images ({', '.join(IMAGES)}) in the shard, got none; fetch or save it again"
        )
    if bare := [key for key in images if labels.get(key) is None]:
        raise DataError(
            f"{where}: expected a label ({bare[0]}.cls, or {bare[0]}.json with {', '.join(KEYS)}) beside each image, "
            f"got {len(bare):,} of {len(images):,} images without; write them into the shard"
        )
    return [(path, place, labels[key]) for key, (path, place) in images.items()]


def _safe(member: tarfile.TarInfo, where: str) -> PurePosixPath:
    """Return the name of a member; raises ``DataError`` for one that leads out of the tar, or is no plain file."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\0" in member.name:
        raise DataError(
            f"{where}: expected names within the tar, got the unsafe path {shown(member.name)!r}; save it again"
        )
    if not member.isreg() or member.issparse():
        raise DataError(
            f"{where}: expected plain files, got {shown(member.name)!r}, a link or device; save it again"
        )
    return name


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> Any:
    file = tar.extractfile(member)
    if file is None or member.size > LARGEST_LABEL:
        raise DataError(f"{where}: expected a label in {shown(member.name)!r}, got {member.size:,} bytes")
    content = file.read()
    try:
        text = content.decode("utf-8").strip()
        if not member.name.lower().endswith(".json"):
            return text
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(
            f"{where}: expected a label in {shown(member.name)!r}, got what is no text or JSON"
        ) from None
    if not isinstance(found, dict):
        return found
    return next((found[key] for key in KEYS if key in found), None)


def _expanded(path: Path, where: str) -> list[Path]:
    """Return the files that ``{000..012}`` stands for; raises ``DataError`` for those missing."""
    text, ranges = str(path), RANGE.findall(str(path))
    spans = [range(int(first), int(last) + 1) for first, last in ranges]
    count = 1
    for span in spans:
        count *= len(span)
    if not 0 < count <= MOST:
        raise DataError(
            f"{where}: expected a pattern of 1 to {MOST:,} shards, got {count:,}; correct the numbers"
        )
    pieces = RANGE.split(text)[::3]
    found = []
    for numbers in product(*spans):
        written = [str(number).zfill(len(first)) for number, (first, _) in zip(numbers, ranges, strict=True)]
        found.append(Path("".join(a + b for a, b in zip(pieces, [*written, ""], strict=True))))
    if missing := [file for file in found if not is_file(file)]:
        raise DataError(
            f"{where}: expected {len(found):,} shards, got {len(found) - len(missing):,}: no file {shown(missing[0])}; "
            "correct the numbers, or fetch the rest"
        )
    return found


def _in_folder(folder: Path) -> list[Path]:
    """Return the tar files of a folder, sorted."""
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".tar" and file.is_file())
    except OSError:
        return []


def _shard_of(path: Path) -> Path:
    """Return the tar that a member's name begins with."""
    for parent in path.parents:
        if parent.is_file():
            return parent
    raise OSError("no such tar")
