"""Labels as files hold them, whole numbers or names of classes, become numbers from 0."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

from robust_eval.errors import DataError

__all__ = ["Numbered", "numbered"]


class Numbered(NamedTuple):
    """Labels as numbers, how many classes there are, and their names where they have some."""

    labels: list[int]
    classes: int
    names: tuple[str, ...] | None


def numbered(
    values: Sequence[Any], *, where: str, at: str = "row", names: Sequence[str] | None = None
) -> Numbered:
    """Return labels as numbers: numbers as they are, names by ``names``, else in the order of the alphabet.

    ``at`` is what a message calls the place of a label, which is counted from 1. Raises ``DataError`` for a label that
    is missing, of another kind, or not among the ``names``.
    """
    for place, value in enumerate(values, 1):
        if value is None or value == "":
            raise DataError(
                f"{where}: expected a label for each image, got none in {at} {place:,}; fill it in, or leave it out"
            )
        if isinstance(value, bool) or not isinstance(value, Integral | str):
            raise DataError(
                f"{where}: expected whole numbers or names of classes as labels, got {value!r} "
                f"({type(value).__name__}) in {at} {place:,}; save them as whole numbers"
            )
    if all(isinstance(value, Integral) or _is_number(value) for value in values):
        labels = [int(value) for value in values]
        classes = max(max(labels, default=0) + 1, len(names or ()), 1)
        return Numbered(labels, classes, tuple(names) if names and len(names) == classes else None)
    texts = [str(value) for value in values]
    known = sorted(set(texts)) if names is None else list(names)
    numbers = {name: number for number, name in enumerate(known)}
    if unknown := sorted({text for text in texts if text not in numbers}):
        raise DataError(
            f"{where}: expected classes among those known ({', '.join(known[:5])}{' ...' if len(known) > 5 else ''}), "
            f"got {', '.join(map(repr, unknown[:3]))}; rename them"
        )
    return Numbered([numbers[text] for text in texts], len(known), tuple(known))


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.strip().isascii() and value.strip().removeprefix("-").isdecimal()
