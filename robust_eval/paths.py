"""What lies at a path: asked before anything is opened, since a FIFO, a device or a socket is waited on for ever.

Nothing here raises for a path that no file can have: one with a NUL in it, of 5,000 characters, in a circle of links.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from robust_eval.errors import DataError, RobustEvalError

__all__ = [
    "exists",
    "expanded",
    "is_file",
    "is_folder",
    "misnamed",
    "require_file",
    "resolved",
    "shown",
    "what_is",
]

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LONGEST = 160
"""Characters of a path that a message shows."""


def what_is(path: str | Path) -> str:
    """Return what lies there, in words: ``a file``, ``a folder``, ``none``, ``a FIFO``, or why nothing can."""
    try:
        # the classes of pathlib raise for some of what is answered here
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "something else")  # noqa: PTH116
    except ValueError:
        return "a name that no file can have"
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "a link to nothing" if _is_link(path) else "none"
        return f"none that can be reached ({os.strerror(error.errno or errno.EIO)})"


def is_file(path: str | Path) -> bool:
    """Whether a regular file lies there."""
    return what_is(path) == "a file"


def is_folder(path: str | Path) -> bool:
    """Whether a folder lies there."""
    return what_is(path) == "a folder"


def exists(path: str | Path) -> bool:
    """Whether anything lies there, of whatever kind."""
    return what_is(path) in {*_KINDS.values(), "something else"}


def require_file(
    path: str | Path,
    *,
    where: str,
    wanted: str = "a file",
    fix: str = "",
    error: type[RobustEvalError] = DataError,
) -> None:
    """Raise unless a regular file lies there, naming what does."""
    if (found := what_is(path)) != "a file":
        raise error(f"{where}: expected {wanted}, got {found}{f'; {fix}' if fix else ''}")


def misnamed(path: str | Path) -> str | None:
    """Return why a path cannot be asked for, and what to do; ``None`` where it can.

    A path that is no text cannot be written down, and what was measured could not be told.
    """
    text = str(path)
    if not text:
        return "expected a path, got nothing; give a name"
    if "\0" in text:
        return f"expected a path, got {shown(text)} with a NUL character; take it out"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"expected a path in UTF-8, got {shown(text)}; rename it, or name a link to it"
    longest = max((len(os.fsencode(part)) for part in Path(text).parts), default=0)
    if longest > 255:
        return f"expected names of 255 bytes at most, got {shown(text)} of {longest}; give a shorter one"
    if len(os.fsencode(text)) > 4095:
        return f"expected a path of 4095 bytes at most, got {shown(text)}; give a shorter one"
    return None


def expanded(path: str | Path) -> Path:
    """Return the path with ``~`` replaced by a home folder; as it is where nobody has that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def resolved(path: str | Path) -> Path:
    """Return a path without links; as it is where they lead in a circle, which whoever opens it will tell."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError):
        return Path(path).absolute()


def shown(path: str | Path) -> str:
    """Return a path for a message: in printable characters, the middle of a long one left out."""
    text = os.fsencode(str(path)).decode("utf-8", "backslashreplace") if _is_bytes(path) else str(path)
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return text if len(text) <= _LONGEST else f"{text[:100]}...{text[-40:]}"


def _is_bytes(path: str | Path) -> bool:
    """Whether the text stands for bytes, as the system's paths do."""
    try:
        os.fsencode(str(path))
    except UnicodeEncodeError:
        return False
    return True


def _is_link(path: str | Path) -> bool:
    try:
        return Path(path).is_symlink()
    except (OSError, ValueError):
        return False
