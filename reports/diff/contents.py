"""A diff as sections, which Markdown and the page spell out: numbers, images that flipped, facts, and what is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reports.bodies import Grid, Listing, Paragraphs, Picture, Sheet, Sheets
from reports.diff.changes import Change, Diff, Flip
from reports.diff.words import grouped, heads, legend, of_text, shortened, words_of
from reports.section import Section

__all__ = ["contents"]

_SHOWN = 24
"""Pictures of a number, of each kind of flip."""
_LISTED = 60
"""Images of a number that are named, of each kind."""
_BYTES = 2 << 20
"""Of all pictures."""
_AROUND = 400

_Pictures = Mapping[tuple[str, int], Picture]
"""By the hash of the set and the index of the image."""


def contents(diff: Diff, pictures: _Pictures | None = None, why_none: str = "") -> tuple[Section, ...]:
    """Return the sections; ``why_none`` says why there are no pictures, or not all."""
    return tuple(_sections(diff, pictures or {}, why_none))


def _sections(diff: Diff, pictures: _Pictures, why_none: str) -> Iterator[Section]:
    yield Section("", Paragraphs((diff.sentence, *(f"{remark}." for remark in diff.remarks))))
    if diff.changes:
        rows = tuple(words_of(diff, change) for change in diff.changes)
        yield Section("", Grid(heads(diff), rows, 1), legend(diff))
    changed = [change for change in diff.beyond_noise if change.to_wrong or change.to_right]
    if changed:
        flips = tuple((change.place, _which(change.to_wrong), _which(change.to_right)) for change in changed)
        note = (
            "Of the numbers that changed: each image by its place in the set, its class, and what it is taken for "
            "where it is wrong; --format json has them all. Pictures are of the clean image."
        )
        yield Section(
            "Images that flipped", Listing(("number", "right → wrong", "wrong → right"), flips, 3), note
        )
    left = _BYTES
    for change in changed:
        for what, own in (("right → wrong", change.to_wrong), ("wrong → right", change.to_right)):
            shown, left = _shown(change, own, pictures, left)
            if shown:
                more = f" The first {len(shown)} of {len(own)}." if len(own) > len(shown) else ""
                sheet = Sheet(change.data, (), (), shown)
                yield Section("", Sheets((sheet,)), f"{change.place}: {what}.{more}")
    if why_none and changed:
        yield Section("", Paragraphs((why_none,)))
    if diff.made:
        facts = tuple((of_text(made), shortened(made.before), shortened(made.after)) for made in diff.made)
        note = "Of the models, data and methods that both runs have."
        yield Section(
            "What was made differently", Listing(("of what", diff.before, diff.after), facts, 3), note
        )
    if diff.unpaired:
        reasons = tuple(grouped(diff.unpaired, named=None))
        yield Section("Not compared", Listing(("why", "numbers"), reasons, 2))
    checks = tuple((change.place, line) for change in diff.changes for line in change.checks)
    if checks:
        yield Section(
            "Checks that speak up", Listing(("number", "check"), checks, 2), folded=len(checks) > _SHOWN
        )


def _which(flips: tuple[Flip, ...]) -> str:
    more = f" and {len(flips) - _LISTED} more" if len(flips) > _LISTED else ""
    told = ", ".join(flip.text for flip in flips[:_LISTED]) + more
    return f"{len(flips)}: {told}" if flips else "none"


def _shown(
    change: Change, flips: tuple[Flip, ...], pictures: _Pictures, left: int
) -> tuple[tuple[Picture, ...], int]:
    """Return the pictures of the first of these images, and how many bytes are left for others."""
    shown: list[Picture] = []
    for flip in flips:
        found = pictures.get((change.images, flip.index))
        if found is None or len(shown) == _SHOWN or len(found.text) + _AROUND > left:
            continue
        left -= len(found.text) + _AROUND
        shown.append(Picture(found.text, flip.text, found.width, found.height))
    return tuple(shown), left
