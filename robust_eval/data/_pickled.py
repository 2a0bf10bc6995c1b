"""Pickles read without running what they ask for: numbers, text, lists, dictionaries and numpy arrays alone."""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from robust_eval.errors import DataError
from robust_eval.paths import require_file

__all__ = ["is_pickle", "unpickled"]

_PROTOCOL = b"\x80"


class _Refused(Exception):
    """A pickle asks for something else than data."""


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Return bytes that Python 3 has written as text for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("_codecs.encode")
    return codecs.encode(text, "latin1")


def _rebuilt(*parts: object) -> Any:
    """Return an empty array, which the pickle fills: numpy's own way, for arrays of no class of a user's."""
    if parts[0] is not np.ndarray:
        raise _Refused("an array of another class")
    return np.ndarray.__new__(np.ndarray, (0,), np.int8)


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """Return an array as protocol 5 writes it."""
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _scalar(dtype: Any, content: Any) -> Any:
    """Return one of numpy's numbers."""
    return np.frombuffer(content, dtype)[0]


_DATA: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _rebuilt for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _DATA:
            raise _Refused(f"{module}.{name}")
        return _DATA[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("an object kept elsewhere")


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError:
        return False
    return start[:1] == _PROTOCOL and len(start) == 2 and start[1] <= pickle.HIGHEST_PROTOCOL


def unpickled(path: Path) -> Any:
    """Return what a pickle holds; text of Python 2 as bytes. Raises ``DataError`` for one that asks for code."""
    require_file(path, where=f"data {path}", wanted="a pickled batch")
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="bytes").load()
    except _Refused as error:
        raise DataError(
            f"data {path}: expected numbers, text and arrays alone, got a pickle that asks for {error}, which is not "
            "run; save its images as .npz"
        ) from None
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(
            f"data {path}: is no pickle that can be read ({type(error).__name__}); fetch the file again"
        ) from None
