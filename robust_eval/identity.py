"""What a thing is known by: the hash of plain data in canonical JSON, the hash of a file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from robust_eval.errors import CheckpointError, near
from robust_eval.paths import is_folder, misnamed, shown, what_is

__all__ = ["content_key", "existing", "file_sha256"]


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def existing(path: str | Path) -> Path:
    """Return the path of a file that can be read; raises ``CheckpointError`` for one that cannot."""
    path = Path(path)
    if (problem := misnamed(path)) is not None:
        raise CheckpointError(f"checkpoint: {problem}")
    if is_folder(path):
        raise CheckpointError(f"{path}: expected a file of weights, got a folder; name a file in it")
    if (found := what_is(path)) == "none":
        beside = [other.name for other in path.parent.iterdir()] if is_folder(path.parent) else []
        raise CheckpointError(f"{path}: no such file{near(path.name, beside)}")
    if found != "a file":
        raise CheckpointError(f"{shown(path)}: expected a file of weights, got {found}")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path}: expected a readable file; give yourself the right to read it")
    return path


def content_key(spec: dict[str, Any]) -> str:
    """Return the sha256 of plain data in canonical JSON."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
