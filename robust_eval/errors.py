"""The errors a user can cause: each carries one message that says what was expected, what came, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "THEIRS",
    "CheckpointError",
    "ConfigError",
    "DamagedRecordError",
    "DataError",
    "MeasurementError",
    "NoGradientError",
    "RobustEvalError",
    "StorageError",
    "UnknownNameError",
    "near",
]


THEIRS = (Exception, SystemExit)
"""What the code of a user may raise, a script that calls ``sys.exit`` among it; Ctrl-C is none of it."""


class RobustEvalError(Exception):
    """Base of every error meant for the user: printed without a traceback."""

    exit_code = 2
    """Of the command that it ends: 2 for wrong input."""


class ConfigError(RobustEvalError):
    """An experiment file, an option or a method's field is wrong. One line for each problem found."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class UnknownNameError(ConfigError):
    """A name that nothing is registered under; the message suggests the nearest one and lists the rest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        super().__init__(f"unknown {kind} {name!r}{near(name, known)}; known: {', '.join(known)}")


class DataError(RobustEvalError):
    """Images or labels that cannot be evaluated: missing, empty, out of range, not finite."""


class DamagedRecordError(DataError):
    """A record that is not what was written: it must not be believed, and can be measured again."""

    exit_code = 1


class StorageError(RobustEvalError):
    """A file that could not be written: the disk is full, or may not be written to. What was finished is kept."""

    exit_code = 1


class MeasurementError(RobustEvalError):
    """Nothing of what was asked for could be measured; the message is the first reason."""

    exit_code = 1


class NoGradientError(RobustEvalError):
    """A model whose output is cut off from its input, so that autograd has no gradient of it."""


class CheckpointError(RobustEvalError):
    """Weights that cannot be read safely or do not fit the architecture."""


def near(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known name, or an empty string when none is close.

    One of the same letters is the closest: two of them have changed places.
    """
    several = list(known)
    same = [each for each in several if sorted(str(each)) == sorted(str(name))]
    close = difflib.get_close_matches(str(name), same or several, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
