"""What ``robust-eval corrupt`` notes beside its files: whether these are whole, and which images they were made of.

Of the clean images the notes hold hashes of the first 1, 2, 4, 8 ... of them and of all. Fewer images than there are in
the files can then be told from others: at least half of those measured are compared, by their pixels as 8-bit levels.
Published files have no notes, and nothing is compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robust_eval.data._examples import Examples
from robust_eval.errors import DataError
from robust_eval.paths import what_is
from robust_eval.types import Images

__all__ = ["NOTES", "Notes", "hashes_of_first", "levels", "sha256_of"]

NOTES = "corruptions.json"
AT_ONCE = 512
"""Images hashed at a time: bounds memory."""


@dataclass(frozen=True, eq=False)
class Notes:
    """The notes of a folder; without a file of them nothing is required."""

    folder: Path
    _found: dict[str, str | None] = field(default_factory=dict, repr=False)
    """What was found, ``None`` for nothing wrong, by file and by the fingerprint of the measured images."""

    def require_whole(self, path: Path) -> None:
        """Raise ``DataError`` for a file that is not the one written. It is read as a whole, once."""
        noted = self._content.get("types", {}).get(path.stem, {}).get("sha256")
        if noted is None:
            return
        if path.name not in self._found:
            self._found[path.name] = None if sha256_of(path) == noted else (
                f"corrupted {path}: expected the file that {NOTES} describes, got a damaged or changed one; write it "
                "again with the same robust-eval corrupt command"
            )  # fmt: skip
        self._raise(path.name)

    def require_images(self, examples: Examples) -> None:
        """Raise ``DataError`` unless the files were made of the measured images."""
        if not self._content:
            return
        if examples.fingerprint not in self._found:
            source = self._content["source"]
            self._found[examples.fingerprint] = None if self._are_of(examples) else (
                f"corrupted {self.folder}: the corrupted files are of other images: expected those of "
                f"{source.get('name')} that {NOTES} tells of, got other pixels in what is measured; measure the set "
                "they were made from, or write files of this one with robust-eval corrupt"
            )  # fmt: skip
        self._raise(examples.fingerprint)

    def _are_of(self, examples: Examples) -> bool:
        """Whether the first of the images are those noted, as far as there are hashes of them."""
        source, hashes = self._content["source"], self._content.get("sha256_of_first", {})
        if not hashes:
            noted: str = source.get("fingerprint", "")
            return len(examples) != source.get("n") or noted == examples.fingerprint
        n = max(int(n) for n in hashes if int(n) <= len(examples))
        noted = hashes[str(n)]
        return noted == hashes_of_first(examples.first(n))[str(n)]

    def _raise(self, key: str) -> None:
        if (message := self._found[key]) is not None:
            raise DataError(message)

    @cached_property
    def _content(self) -> dict[str, Any]:
        path = self.folder / NOTES
        if (lies := what_is(path)) not in ("a file", "none"):
            raise DataError(
                f"corrupted {path}: expected the notes of robust-eval corrupt, got {lies}; remove it"
            )
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            hashes = found.get("sha256_of_first", {"1": ""})
            tables = (found["source"], hashes, *found["types"].values())
            if (
                all(isinstance(table, dict) for table in tables)
                and "1" in hashes
                and all(map(str.isdigit, hashes))
            ):
                return dict(found)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise DataError(
            f"corrupted {path}: expected the notes of robust-eval corrupt, got what cannot be read; write the files "
            "again into another folder"
        )


def hashes_of_first(examples: Examples) -> dict[str, str]:
    """Return sha256 over the first 1, 2, 4 ... images and over all of them, by their number."""
    n = len(examples)
    stops = {*(1 << k for k in range(n.bit_length())), n}
    parts = [slice(*part) for part in pairwise(sorted({0, *stops, *range(0, n, AT_ONCE)}))]
    digest, found = hashlib.sha256(repr(examples.shape).encode()), {}
    for part, x in zip(parts, examples.batches(parts), strict=True):
        digest.update(levels(x).tobytes())
        if part.stop in stops:
            found[str(part.stop)] = digest.hexdigest()
    return found


def sha256_of(path: Path) -> str:
    """Return the hash of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"corrupted {path}: cannot be read ({error.strerror})") from None


def levels(x: Images) -> NDArray[np.uint8]:
    """Return images as bytes [n,h,w,c], rounded to the nearest of 256 levels."""
    found: NDArray[np.uint8] = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return found
