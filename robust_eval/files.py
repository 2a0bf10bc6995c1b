"""A file is whole or absent: it is written under a temporary name beside it, flushed to the disk and renamed.

What that costs: a file is written twice where it replaces another, a rename over a network may be seen late by other
machines, and a process that is killed leaves its temporary file behind, which the next start sweeps away.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from robust_eval.errors import StorageError

__all__ = ["alone", "atomic_path", "is_storage_error", "sweep", "write_text", "write_together"]

DAY = 86400.0
"""Seconds after which a temporary file of another machine, or of an unknown process, is nobody's."""
FULL = 1 << 16
"""Bytes below which a disk is full: some libraries raise an error of their own, without its number."""
HOST = sha256(socket.gethostname().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)\.[^.]*\.tmp")
_STORAGE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EFBIG,
    errno.ESTALE,
}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary file beside ``path``; on success it is flushed and renamed to it, on failure removed.

    Raises ``StorageError`` where the disk is full or may not be written to.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name[:24]}.{HOST}-{os.getpid()}."
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        # mkstemp makes files that only their owner reads; a result is as readable as any other file
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except StorageError:
        raise
    except Exception as error:
        if is_storage_error(error) or _is_full(path):
            raise StorageError(
                f"{path}: cannot be written ({_said(error)}); what is finished is kept: make room, or give another "
                "folder, and start again"
            ) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_together(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files into a folder, all of them or none: each lies whole on the disk before the first is renamed."""
    with ExitStack() as stack:
        for name, content in contents.items():
            temporary = stack.enter_context(atomic_path(folder / name))
            temporary.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
            _flush(temporary)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold ``path`` as a lock: another process that wants it waits. A process that is killed lets it go."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}); give another folder") from error
    try:
        yield
    finally:
        lock.release()


def sweep(folder: Path, *below: str) -> None:
    """Remove temporary files whose processes are gone from a folder and those ``below`` it, given as patterns.

    Those of other machines go after a day.
    """
    for path in [path for pattern in ("", *below) for path in folder.glob(f"{pattern}/.*.tmp".lstrip("/"))]:
        found = _TEMPORARY.fullmatch(path.name)
        try:
            if found is not None and found["host"] == HOST:
                gone = not _is_alive(int(found["pid"]))
            else:
                gone = time.time() - path.stat().st_mtime > DAY
            if gone:
                path.unlink(missing_ok=True)
        except OSError:  # somebody else's, or removed in the meantime
            continue


def is_storage_error(error: BaseException) -> bool:
    """Whether an error says that the disk is full or may not be written to."""
    return isinstance(error, OSError) and error.errno in _STORAGE


def _said(error: Exception) -> str:
    if is_storage_error(error):
        return os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
    return os.strerror(errno.ENOSPC)


def _is_full(path: Path) -> bool:
    present = path.parent
    while not present.exists():
        present = present.parent
    return shutil.disk_usage(present).free < FULL


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
