r"""Names of people and files, made such that a terminal, Markdown, a chart and a folder can hold them.

A control character in a name moves the cursor, breaks a table or ends the process inside a library. What cannot be
printed is written as Python would write it, ``\x1b``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["folder_name", "printable", "printable_all"]

LONGEST = 100
"""Bytes of a folder's name; file systems take 255, and others are made beside it."""
# controls, separators of lines, marks that turn the direction of text, halves of characters
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_NO_FOLDER = re.compile(r"[/\\]|^[.~\s]|\s$|^-|^$")


def printable(text: str) -> str:
    """Return a text of one line that can be printed; one that can be already stays as it is."""
    return _UNPRINTABLE.sub(_escaped, text)


def printable_all(value: Any) -> Any:
    """Return plain data with every text in it made printable, the names of fields too."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable_all(key): printable_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(printable_all, value)) if type(value) in (list, tuple) else value
    return value


def folder_name(name: str) -> str:
    """Return a name as that of one folder, which leads nowhere else.

    A name that is one already stays. Of any other, what cannot be in a folder's name becomes ``_``, it is cut, and a
    piece of the hash of the whole name is added: two names never share a folder by accident.
    """
    if not (_NO_FOLDER.search(name) or _UNPRINTABLE.search(name) or len(name.encode()) > LONGEST):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    plain = _UNPRINTABLE.sub("_", re.sub(r"[/\\\s]", "_", name)).lstrip("._~-")
    cut = plain.encode()[: LONGEST - len(digest) - 1].decode(errors="ignore")
    return f"{cut}-{digest}" if cut else digest


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
