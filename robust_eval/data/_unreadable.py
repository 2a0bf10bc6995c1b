"""Images that cannot be read: how many, which, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from robust_eval.errors import DataError
from robust_eval.paths import shown

__all__ = ["left_out", "unreadable"]

log = logging.getLogger(__name__)

FEW = 3
"""Names that a message gives."""
SKIP = "or leave what cannot be read out with --skip-unreadable (skip_unreadable = true in [data])"


def unreadable(where: str, paths: Sequence[Path], of: int, fix: str) -> DataError:
    """Return the error for images that cannot be read among so many."""
    skip = f", {SKIP}" if fix == "remove it" else ""
    if len(paths) == 1:
        among = "" if of == 1 else f" (1 of {of:,} images)"
        return DataError(f"data: {shown(paths[0])} is no image that can be read; {fix}{skip}{among}")
    fix = "remove them" if fix == "remove it" else fix
    return DataError(f"{where}: {len(paths):,} of {of:,} images cannot be read: {_few(paths)}; {fix}{skip}")


def left_out(where: str, paths: Sequence[Path], of: int) -> None:
    """Say which images were left out."""
    verb = "image that cannot be read is" if len(paths) == 1 else "images that cannot be read are"
    log.warning("%s: %s of %s %s left out: %s", where, f"{len(paths):,}", f"{of:,}", verb, _few(paths))


def _few(paths: Sequence[Path]) -> str:
    return ", ".join(shown(path) for path in paths[:FEW]) + (" ..." if len(paths) > FEW else "")
