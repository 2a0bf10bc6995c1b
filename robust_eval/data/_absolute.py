"""Paths of data as paths from anywhere."""

from __future__ import annotations

from pathlib import Path

from robust_eval.paths import expanded

__all__ = ["absolute"]


def absolute(folder: Path, name: str) -> str:
    """Return a path that starts at a folder as one from anywhere, both paths where two files are named."""
    first, comma, second = name.rpartition(",")
    if comma and first.lower().endswith(".npy") and second.lower().endswith(".npy"):
        images = folder / expanded(first)
        beside = images.parent / second.strip()
        labels = beside if beside.exists() else folder / expanded(second.strip())
        return f"{images.absolute()},{labels.absolute()}"
    return str((folder / expanded(name)).absolute())
