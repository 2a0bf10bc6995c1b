"""What the fields of methods are made of: numbers with a largest value, of which neither ``true`` nor ``1e22`` is one.

A field narrows them further: ``Annotated[Whole, Field(ge=1)]`` is a count.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from robust_eval.bounds import LARGEST, LAST_SEED, MOST

__all__ = ["Depth", "Positive", "Real", "Seed", "Side", "Whole", "Width"]

DIGITS = 20
"""No number of 64 bits has more."""


def _whole(value: Any) -> Any:
    """Refuse ``true`` and ``false``, which count as 1 and 0 elsewhere."""
    if isinstance(value, bool):
        raise ValueError(f"expected a whole number, got {value}")
    if isinstance(value, float) and not abs(value) <= LAST_SEED:
        raise ValueError(f"expected a whole number of reasonable size, got {value:g}")
    if isinstance(value, str) and len(value) > DIGITS:
        raise ValueError(f"expected a whole number of reasonable size, got one of {len(value):,} characters")
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
Width = Annotated[int, Field(ge=1, le=1024), BeforeValidator(_whole)]
"""Channels or their factor, or how often a layer is repeated: larger networks fit nowhere."""
Depth = Annotated[int, Field(le=2048), BeforeValidator(_whole)]
"""Layers of a network."""
Side = Annotated[int, Field(ge=1, le=16384), BeforeValidator(_whole)]
"""Of an image, in pixels."""
