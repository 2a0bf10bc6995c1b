"""A worker process of :mod:`.local`: it is sent a job on stdin and tells on stdout, a line of JSON each, how it goes.

It ends when nothing is left to take, when it is terminated, and when the process that started it is gone, which closes
its stdin.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import IO, NoReturn

from robust_eval.processors import be_considerate

__all__ = ["main"]

EVERY = 0.2
"""Seconds from one message on what a cell is at to the next."""
GRACE = 10.0
"""Seconds that a worker without a parent is given to end."""


def main() -> int:
    """Work on the job that stdin holds, and return the exit code."""
    be_considerate()
    # what models print goes elsewhere
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is asked, and decides
    for warning in (
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):  # a scheduler warns all processes of a job; the parent decides
        signal.signal(warning, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    data = _read(int.from_bytes(_read(8), "big"))
    threading.Thread(target=_watch_parent, daemon=True).start()

    from robust_eval.errors import RobustEvalError
    from robust_eval.files import is_storage_error
    from robust_eval.run.worker import unpacked, work

    try:
        work(unpacked(data), _Telling(told))
    except KeyboardInterrupt:
        return 143
    except RobustEvalError as error:
        _send(told, "refused", message=str(error), code=error.exit_code)
        return error.exit_code
    except OSError as error:
        if not is_storage_error(error):
            raise
        _send(told, "refused", message=f"{error.filename or 'the disk'}: {error.strerror or error}", code=1)
        return 1
    return 0


class _Telling:
    """Sends what it is told to the parent."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._said = 0.0

    def start(self, total: int, found: int) -> None:
        """Say nothing: the parent knows."""

    def tell(self, line: str) -> None:
        _send(self._out, "tell", line=line)

    def training(self, name: str, fraction: float, text: str) -> None:
        if fraction >= 1 or self._is_due():
            _send(self._out, "training", name=name, fraction=fraction, text=text)

    def begin(self, cell: object) -> None:
        _send(self._out, "begin", key=cell.key)  # type: ignore[attr-defined]

    def inside(self, stage: str, done: int, of: int | None) -> None:
        if self._is_due():
            _send(self._out, "inside", stage=stage, done=done, of=of)

    def finish(self, cell: object, record: object) -> None:
        _send(self._out, "finish", key=cell.key)  # type: ignore[attr-defined]

    def fail(self, failure: object) -> None:
        _send(self._out, "fail", key=failure.cell.key, error=failure.error, trace=failure.trace)  # type: ignore[attr-defined]

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._said < EVERY:
            return False
        self._said = now
        return True


def _send(out: IO[str], event: str, **fields: object) -> None:
    try:
        out.write(json.dumps({"event": event, **fields}) + "\n")
        out.flush()
    except BrokenPipeError:
        raise KeyboardInterrupt from None


def _read(size: int) -> bytes:
    """Return so many bytes of stdin; less where the parent is gone."""
    parts = []
    while size and (part := os.read(0, min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _watch_parent() -> None:
    # past Python's own buffer, whose lock Python wants to have when it ends
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(143)


def _end(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
