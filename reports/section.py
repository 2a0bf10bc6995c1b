"""A section of a report, and what sections are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from reports.bodies import Body
from reports.comparison import comparison
from reports.tables import Comparison
from robust_eval.errors import DataError
from robust_eval.results.entry import Entry
from robust_eval.results.load import Loaded

__all__ = ["Section", "Source"]


@dataclass(frozen=True)
class Section:
    """One thing a report says, before it is spelt out in a format."""

    title: str
    """Empty where it goes on with the section before it."""
    body: Body
    note: str = ""
    """What a reader has to know of the body."""
    at_length: str | None = None
    """The note where there is room for more, as on the page. Default: the note."""
    caption: str | None = None
    """The note of a table that is torn out of the report, as in a paper. Default: title and note."""
    folded: bool = False
    """Whether it holds details, which a reader of the page unfolds."""
    group: str = ""
    """A heading that the page puts it under, together with those of the same group that stand beside it."""


@dataclass(frozen=True)
class Source:
    """What sections are made of: the records that were loaded, and what was asked of them."""

    loaded: Loaded
    baseline: str | None = None
    """The model that errors under corruptions are divided by, as the user names it."""
    folders: tuple[Path, ...] = ()
    """The folders that the records were read from."""

    @property
    def results(self) -> pd.DataFrame:
        """The long table."""
        return self.loaded.results

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The records behind it."""
        return self.loaded.entries

    @cached_property
    def table(self) -> Comparison:
        """The comparison of accuracies."""
        return comparison(self.results)

    @cached_property
    def reference(self) -> str | None:
        """What the tables call the baseline; raises ``DataError`` where no model or several are meant."""
        name = self.baseline
        shown = sorted({str(entry.labels["model"]) for entry in self.entries})
        if name is None or name in shown:
            return name
        meant = sorted({str(e.labels["model"]) for e in self.entries if e.record.labels.get("model") == name})
        if len(meant) == 1:
            return meant[0]
        raise DataError(
            f"baseline: expected {'one of the models ' if len(shown) > 1 else ''}{', '.join(meant or shown)}, got "
            f"{name!r}; name a model that was measured under the same corruptions"
        )
