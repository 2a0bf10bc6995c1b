"""The arrays of a ``.npz`` file by their headers: how large they are is known, and refused, before any is unpacked.

A member is a ``.npy`` file, whose header says type and shape. Rows lie one behind the other, so the first of them are
read without the others. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from robust_eval.errors import DataError
from robust_eval.machine import available
from robust_eval.paths import require_file

__all__ = ["Header", "Npz", "opened"]

DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    OverflowError,
    RuntimeError,  # encrypted, and NotImplementedError of an unknown compression
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a damaged archive or header is answered with."""
COPIES = 2
"""Of an array while it is brought into the type and order that it is used in."""


@dataclass(frozen=True)
class Header:
    """Type and shape of an array that was not read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Npz:
    """An open ``.npz`` file."""

    path: Path
    archive: zipfile.ZipFile

    @property
    def names(self) -> list[str]:
        """Those of the arrays, as NumPy calls them."""
        return [member.removesuffix(".npy") for member in self.archive.namelist()]

    def header(self, name: str) -> Header:
        """Return what an array says of itself; raises ``DataError`` where that is not what lies in the file."""
        with self._member(name) as (header, _):
            return header

    def array(self, name: str, n: int | None = None) -> NDArray[Any]:
        """Return the first ``n`` rows, all for ``None``; raises ``DataError`` for what is damaged or too large."""
        with self._member(name) as (header, file):
            rows = header.shape[0] if header.shape else 0
            shape = header.shape if n is None or header.fortran else (min(n, rows), *header.shape[1:])
            self._require_room(name, math.prod(shape) * header.dtype.itemsize)
            content = bytearray(math.prod(shape) * header.dtype.itemsize)
            _fill(file, content)
            order: Literal["F", "C"] = "F" if header.fortran else "C"
            array: NDArray[Any] = np.frombuffer(content, header.dtype).reshape(shape, order=order)
            return array if n is None or not shape else array[:n]

    @contextmanager
    def _member(self, name: str) -> Iterator[tuple[Header, zipfile.ZipExtFile]]:
        members = self.archive.namelist()
        member = self.archive.getinfo(f"{name}.npy" if f"{name}.npy" in members else name)
        try:
            with cast("zipfile.ZipExtFile", self.archive.open(member)) as file:
                header = _header(file)
                if header.dtype.hasobject:
                    raise DataError(
                        f"data {self.path}: {name} holds Python objects, which are not unpickled; save plain numbers"
                    )
                told, there = header.size, member.file_size - file.tell()
                if told != there:
                    raise DataError(
                        f"data {self.path}: {name} is damaged: its header tells of {told:,} bytes, and there are "
                        f"{there:,}; save it again"
                    )
                yield header, file
        except DAMAGED:
            raise DataError(
                f"data {self.path}: {name} is no array or is damaged; expected one saved by numpy.savez"
            ) from None

    def _require_room(self, name: str, size: int) -> None:
        free = available(torch.device("cpu"))
        if free is not None and COPIES * size > free:
            raise DataError(
                f"data {self.path}: expected arrays that fit into memory, got {name} of {size / 1e9:.1f} GB where "
                f"{free / 1e9:.1f} GB are free; take fewer images (n), or save fewer"
            )


@contextmanager
def opened(path: Path) -> Iterator[Npz]:
    """Open a ``.npz`` file; raises ``DataError`` for anything else, and for what would be waited on for ever."""
    require_file(path, where=f"data {path}", wanted="a .npz file")
    try:
        archive = zipfile.ZipFile(path)
    except PermissionError as error:
        raise DataError(f"data {path}: cannot be read ({error.strerror})") from None
    except DAMAGED:
        raise DataError(
            f"data {path}: expected a .npz file made by numpy.savez, got something else"
        ) from None
    with archive:
        yield Npz(path, archive)


def _header(file: zipfile.ZipExtFile) -> Header:
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = npy.read_array_header_2_0(file)
    if any(side < 0 for side in shape):
        raise ValueError("a side of less than nothing")
    return Header(shape, dtype, fortran)


def _fill(file: zipfile.ZipExtFile, content: bytearray) -> None:
    """Read as many bytes as there is room for; raises ``EOFError`` where there are fewer."""
    view, done = memoryview(content), 0
    while done < len(view):
        part = file.read(min(1 << 24, len(view) - done))
        if not part:
            raise EOFError
        view[done : done + len(part)] = part
        done += len(part)
