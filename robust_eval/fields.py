"""What the fields of methods are made of: numbers with a largest value, of which neither ``true`` nor ``1e22`` is one.

A field narrows them further: ``Annotated[Whole, Field(ge=1)]`` is a count.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

__all__ = ["LARGEST", "LAST_SEED", "MOST", "Depth", "Positive", "Real", "Seed", "Side", "Whole", "Width"]

MOST = 10_000_000
"""More steps, draws or copies than any machine takes; mistyped rather than meant."""
LARGEST = 1e9
"""No length, rate or weight reaches it."""
LAST_SEED = 2**63 - 1
"""What a column of a table of records holds."""


def _whole(value: Any) -> Any:
    """Refuse ``true`` and ``false``, which count as 1 and 0 elsewhere."""
    if isinstance(value, bool):
        raise ValueError(f"expected a whole number, got {value}")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {value}")
    return value


Whole = Annotated[int, Field(ge=-MOST, le=MOST), BeforeValidator(_whole)]
"""A whole number."""
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False), BeforeValidator(_number)]
"""Any number."""
Positive = Annotated[Real, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, le=LAST_SEED), BeforeValidator(_whole)]
Width = Annotated[Whole, Field(ge=1, le=1024)]
"""Channels or their factor, or how often a layer is repeated: larger networks fit nowhere."""
Depth = Annotated[Whole, Field(le=2048)]
"""Layers of a network."""
Side = Annotated[Whole, Field(ge=1, le=16384)]
"""Of an image, in pixels."""
