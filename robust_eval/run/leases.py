"""A lease says that somebody works on something in a run folder, so that others take something else.

It is a file in ``leases/`` of the run folder, made by exclusive creation, with who holds it inside. Its holder touches
it every ``BEAT`` seconds. It is taken over by another when it has expired: at once where its process is gone from the
machine of the one who asks, else when it was not touched for ``EXPIRY`` seconds.

Age is told by the clock of the folder, which is the time of modification that a file touched there gets: machines on
one folder need not agree on the time. That clock may jump too. Where it says that a lease has expired, the lease is
watched for two more beats of the local monotonic clock before it is taken over; and one that was not touched in
``EXPIRY`` seconds of that clock is taken over whatever the folder's clock says.

A lease saves work and decides nothing: records are written whole and under the key of all they depend on, so that two
who measure the same cell write the same record. Therefore no case needs to be excluded, only to be rare: a holder that
was too slow to touch its lease, or two that take over one lease at the same time.

What this asks of a shared folder: exclusive creation, rename within a folder, and touching by the server's clock, as
NFS of version 3 and later has them; no locks (``flock``), no hard links. A client of NFS may see a touch as late as its
attribute cache is old, 60 seconds by default (``acregmax``): ``EXPIRY`` is twice that.

A worker that ends while it holds a lease leaves a note beside it, written by whoever notices: ``KEY.ended``.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from robust_eval.errors import StorageError
from robust_eval.files import write_text
from robust_eval.printable import printable
from robust_eval.run.clocks import CLOCKS, Clocks
from robust_eval.run.lease import LONGEST, Lease, as_lease
from robust_eval.run.processes import machine, out_of_memory, start_of

__all__ = ["BEAT", "EXPIRY", "FOLDER", "Claim", "Ended", "Leases"]

FOLDER = "leases"
BEAT = 10.0
"""Seconds from one touch to the next."""
EXPIRY = 120.0
"""Seconds without a touch after which a lease is anybody's."""
_ENDED = ".ended"
_TRIES = 5
_GONE = "{}: expected the run folder, and it is gone; start again"


class Ended(NamedTuple):
    """Workers that ended while they worked on something."""

    reasons: tuple[str, ...] = ()
    less_memory: bool = False
    """Whether the next should try with less memory, as it may have been that."""
    since: float = 0.0
    """When the last of them had begun, by the folder's clock."""


class Claim(NamedTuple):
    """A lease of one's own, with who ended in working on the same before."""

    name: str
    ended: Ended


class Leases:
    """The leases of a run folder, and those that this object holds."""

    def __init__(
        self,
        run: Path,
        *,
        parent: int | None = None,
        clocks: Clocks = CLOCKS,
        beat: float = BEAT,
        expiry: float = EXPIRY,
    ) -> None:
        self._run, self.folder, self._parent = run, run / FOLDER, parent
        self._clocks, self._beat, self._expiry = clocks, beat, expiry
        self._place: tuple[int, int] | None = None
        """Which folder it was at first."""
        self._held: dict[str, str] = {}
        """Tokens by name."""
        self._watched: dict[str, tuple[str, float, float]] = {}
        """By the name of somebody's lease: token and time of its last touch, and when that was seen first."""

    def claim(self, name: str, what: dict[str, Any]) -> Claim | None:
        """Return a lease of this name, ``None`` where somebody works on it.

        Raises ``StorageError`` where the folder is gone or cannot be written.
        """
        with _told(self._run):
            self.require_run()
            if not self._create(name, what):
                lease = self.read(name)
                if lease is not None and not self._take_over(lease):
                    return None
                if not self._create(name, what):
                    return None
            return Claim(name, self.ended(name))

    def require_run(self) -> None:
        """Raise ``StorageError`` where the run folder is gone; writing a file may have made another of its name."""
        with _told(self._run):
            found = self._run.stat()
        self._place = self._place or (found.st_dev, found.st_ino)
        if self._place != (found.st_dev, found.st_ino):
            raise StorageError(_GONE.format(self._run))

    def release(self, name: str, *, done: bool = True) -> None:
        """Give a lease back; with ``done`` who ended in working on it is forgotten."""
        token = self._held.pop(name, None)
        with suppress(OSError):
            lease = self.read(name)
            if lease is not None and lease.token == token:
                self._path(name).unlink(missing_ok=True)
            if done:
                self._path(name + _ENDED).unlink(missing_ok=True)

    def touch(self) -> None:
        """Say that what is held is still worked on; a lease that was taken over in the meantime is let go."""
        for name, token in list(self._held.items()):
            with suppress(OSError):  # the next file that is written tells
                lease = self.read(name)
                if lease is not None and lease.token == token:
                    os.utime(self._path(name))
                else:
                    self._held.pop(name, None)

    @contextmanager
    def touching(self) -> Iterator[None]:
        """Touch what is held every beat while this lasts, and give it back at the end."""
        over = threading.Event()

        def touch() -> None:
            while not over.wait(self._beat):
                self.touch()

        thread = threading.Thread(target=touch, name="leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            for name in list(self._held):
                self.release(name, done=False)
            with suppress(OSError):  # others work here
                self.folder.rmdir()

    def read(self, name: str) -> Lease | None:
        """Return somebody's lease, ``None`` where there is none. One that cannot be read is nobody's known."""
        path = self._path(name)
        try:
            touched = path.stat().st_mtime
            text = path.read_bytes()
        except OSError:
            return None
        return as_lease(name, text, touched)

    def found(self) -> list[Lease]:
        """Return all leases."""
        return [lease for name in self.names() if (lease := self.read(name)) is not None]

    def names(self) -> list[str]:
        """Return the names of all leases."""
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.name for entry in entries]
        except OSError:
            return []
        return sorted(name for name in names if not name.startswith(".") and not name.endswith(_ENDED))

    def ended(self, name: str) -> Ended:
        """Return who ended in working on this."""
        try:
            found = json.loads(self._path(name + _ENDED).read_bytes())
            return Ended(
                tuple(printable(str(one))[:LONGEST] for one in found["reasons"]),
                bool(found["less_memory"]),
                float(found["since"]),
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return Ended()

    def note_end(self, lease: Lease, reason: str, *, less_memory: bool) -> None:
        """Note that the holder of a lease has ended, and give what it held to others."""
        known = self.ended(lease.name)
        short = known.less_memory or less_memory
        note = {"reasons": [*known.reasons, reason], "less_memory": short, "since": lease.since}
        write_text(self._path(lease.name + _ENDED), json.dumps(note))
        self.drop(lease)

    def drop(self, lease: Lease) -> None:
        """Give what the holder of a lease held to others: it works no more."""
        now = self.read(lease.name)
        if now is not None and now.token == lease.token:
            self._path(lease.name).unlink(missing_ok=True)

    def forget_ends(self) -> None:
        """Forget who ended: what they worked on is tried anew."""
        with suppress(OSError):
            for path in self.folder.glob(f"*{_ENDED}"):
                path.unlink(missing_ok=True)
            self.folder.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _create(self, name: str, what: dict[str, Any]) -> bool:
        token = uuid4().hex
        file = self._made(name)
        if file is None:
            return False
        try:
            content = {
                "what": what,
                "machine": machine(),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": start_of(os.getpid()),
                "token": token,
                "since": os.fstat(file).st_mtime,
                "memory": out_of_memory(),
                "parent": self._parent,
            }
            os.write(file, json.dumps(content).encode())
        except OSError:
            self._path(name).unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        self._held[name] = token
        self._watched.pop(name, None)
        return True

    def _made(self, name: str) -> int | None:
        """Open a lease that was not there; ``None`` where it was."""
        for _ in range(_TRIES):
            with suppress(FileExistsError):
                self.folder.mkdir()  # and not those above it: a run folder that is gone stays gone
            try:
                return os.open(self._path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return None
            except FileNotFoundError:  # another has just left, and removed the empty folder
                continue
        return os.open(self._path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)

    def _take_over(self, lease: Lease) -> bool:
        """Remove a lease that has expired; whether it had, and nobody was faster."""
        if lease.token and lease.token == self._held.get(lease.name):
            return False
        if not lease.is_gone and not self._has_expired(lease):
            return False
        aside = self._path(f".{lease.name[:64]}-{uuid4().hex[:8]}")
        try:
            self._path(lease.name).rename(aside)
        except FileNotFoundError:
            return False
        taken = aside.read_bytes()
        if lease.token.encode() not in taken:  # somebody else has taken it over just before, and holds it
            aside.rename(self._path(lease.name))
            return False
        aside.unlink(missing_ok=True)
        self.note_end(lease, lease.end, less_memory=lease.is_short)
        return True

    def _has_expired(self, lease: Lease) -> bool:
        now = self._clocks.local()
        token, touched, first = self._watched.get(lease.name, ("", 0.0, now))
        if (token, touched) != (lease.token, lease.touched):
            first = now
            self._watched[lease.name] = (lease.token, lease.touched, now)
        quiet = now - first
        if quiet >= self._expiry:
            return True
        return quiet >= 2 * self._beat and self._clocks.of_folder(self.folder) - lease.touched >= self._expiry


@contextmanager
def _told(run: Path) -> Iterator[None]:
    """Tell in one line why a run folder cannot be worked in."""
    try:
        yield
    except FileNotFoundError:
        raise StorageError(_GONE.format(run)) from None
    except OSError as error:
        raise StorageError(
            f"{run / FOLDER}: cannot be written ({error.strerror}); what is finished is kept: make room, or give "
            "another folder, and start again"
        ) from error
