"""The outline of the page: sections under their headings, each with a place that links lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from reports.bodies import Legend, Paragraphs
from reports.section import Section

__all__ = ["Part", "outline"]

_LONGEST = 48


@dataclass
class Part:
    """A heading with all that stands below it."""

    title: str
    """Empty of what opens the page."""
    place: str
    """The id of its contents."""
    sections: list[Section] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    """Parts within it."""

    @property
    def open(self) -> bool:
        """Whether it is read without being unfolded: a few sentences that a reader must not miss."""
        return bool(self.sections) and isinstance(self.sections[0].body, Paragraphs) and not self.details

    @property
    def details(self) -> bool:
        """Whether print leaves it folded."""
        return not self.sections or self.sections[0].folded


def outline(contents: Sequence[Section]) -> tuple[Part, ...]:
    """Return the parts of a page; a legend and what has no title belong to what stands before them."""
    parts: list[Part] = []
    taken: set[str] = {"main", "answer", "vega"}
    for section in contents:
        goes_on = not section.title or isinstance(section.body, Legend)
        if not parts or not goes_on:
            title = "" if goes_on else section.title
            parts.append(Part(title, _place(title, taken)))
        parts[-1].sections.append(section)
    return tuple(_grouped(parts, taken))


def _grouped(parts: Sequence[Part], taken: set[str]) -> Iterator[Part]:
    """Yield the parts, those of one group within a part of its name."""
    for group, members in groupby(parts, key=lambda part: part.sections[0].group):
        own = list(members)
        if group and len(own) > 1:
            yield Part(group, _place(group, taken), parts=own)
        else:
            yield from own


def _place(title: str, taken: set[str]) -> str:
    """Return a name for an anchor that no other has: letters, digits and hyphens alone."""
    bare = re.sub(r"[^a-z0-9]+", "-", title.lower())[:_LONGEST].strip("-") or "part"
    name = next(name for name in _numbered(bare) if name not in taken)
    taken.add(name)
    return name


def _numbered(bare: str) -> Iterator[str]:
    yield bare
    count = 1
    while True:
        count += 1
        yield f"{bare}-{count}"
