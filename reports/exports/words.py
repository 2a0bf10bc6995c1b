"""Names from records as words in files of others' formats: of one line, without markup, and as names of files."""

from __future__ import annotations

import hashlib
import re

from robust_eval.printable import folder_name, printable

__all__ = ["file_name", "one_line"]

_MARKUP = re.compile(r"[\\`*_\[\]<>#|~!&$]")
_PLAIN = re.compile(r"[^\w.() =,+-]")


def one_line(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return _MARKUP.sub(_escaped, " ".join(printable(text).split()))


def file_name(name: str, suffix: str = "") -> str:
    """Return the name of a model's file or folder; two models never share one by accident."""
    plain = _PLAIN.sub("_", name)
    if plain != name:
        plain = f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    return folder_name(plain) + suffix


def _escaped(found: re.Match[str]) -> str:
    entity = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(found[0])
    return entity or f"\\{found[0]}"
