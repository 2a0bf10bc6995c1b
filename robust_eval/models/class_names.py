"""The names that a model has for its classes are compared with those of the images: a number must mean the same."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from robust_eval.data import Examples
from robust_eval.errors import DataError

__all__ = ["compare_classes"]

log = logging.getLogger(__name__)


def compare_classes(arch: str, outputs: int, names: Sequence[str] | None, examples: Examples) -> None:
    """Say where a folder has another number of classes than the model, or other names for them.

    Raises ``DataError`` where both have the same names in another order: every number would be wrong.
    """
    theirs = examples.class_names
    if theirs is None:
        return
    if outputs != len(theirs):
        log.warning(
            "%s: has folders for %s classes, and %s has %s outputs: are they numbered alike?",
            examples.source, len(theirs), arch, outputs,
        )  # fmt: skip
    if names is None:
        return
    own, folders = [list(map(_plain, each)) for each in (names, theirs)]
    if own == folders:
        return
    if sorted(own) == sorted(folders):
        i = next(i for i, (name, folder) in enumerate(zip(own, folders, strict=True)) if name != folder)
        raise DataError(
            f"{examples.source}: expected classes numbered as those of {arch}, got class {i} {theirs[i]!r}, which is "
            f"{names[i]!r} there; both have the same names in another order: rename the folders so that the alphabet "
            "sorts them so (00_name, 01_name, ...), or give a .npz file"
        )
    common = len(set(own) & set(folders))
    if not all(name == folder for name, folder in zip(own, folders, strict=False)):
        log.warning(
            "%s: class 0 is %r, and %r in %s; %s of %s names agree: are they numbered alike?",
            examples.source, theirs[0], names[0], arch, common, len(theirs),
        )  # fmt: skip


def _plain(name: str) -> str:
    """Return a name without what differs between a folder and a title, such as ``00_`` in front of it."""
    words = re.sub(r"[\W_]+", " ", name.casefold()).strip()
    return re.sub(r"^\d+ (?=\D)", "", words)
