"""Refuses images that are not in the range that all methods work in."""

from __future__ import annotations

from robust_eval.errors import DataError
from robust_eval.types import Images

__all__ = ["refuse_other_pixels"]


def refuse_other_pixels(what: str, x: Images) -> None:
    """Raise ``DataError`` for images with a value outside [0, 1], or with NaN."""
    low, high = (end.item() for end in x.aminmax())
    if not (low >= 0 and high <= 1):  # NaN fails both comparisons
        raise DataError(
            f"{what}: expected pixels in [0, 1], got values from {low:.4g} to {high:.4g}; "
            "give the images before normalisation (mean and std belong to the model)"
        )
