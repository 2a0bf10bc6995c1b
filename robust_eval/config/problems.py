"""Collects what is wrong with an experiment, so that all of it is said at once."""

from __future__ import annotations

from types import TracebackType

from robust_eval.errors import ConfigError, DataError

__all__ = ["Problems"]


class Problems:
    """One line for each problem, each behind the place where it is.

    ``with problems:`` adds what is raised inside, if it is an error of the user's, and goes on behind it.
    """

    def __init__(self, place: str, lines: list[str] | None = None) -> None:
        self.place = place
        self.lines: list[str] = [] if lines is None else lines
        """Problems of all places."""

    def at(self, place: str) -> Problems:
        """Return where problems of a place inside this one are added, to the same lines."""
        return Problems(f"{self.place}: {place}", self.lines)

    def add(self, problem: str) -> None:
        """Add a problem of this place."""
        self.lines.append(f"{self.place}: {problem}")

    def __enter__(self) -> Problems:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, ConfigError):
            for problem in error.problems:
                self.add(problem)
        elif isinstance(error, DataError | ValueError):
            self.add(str(error))
        else:
            return False
        return True

    def require_none(self) -> None:
        """Raise ``ConfigError`` with all problems, if there are any."""
        if self.lines:
            raise ConfigError(self.lines)
