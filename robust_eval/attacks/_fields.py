"""Types of the fields that several attacks have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["Fraction", "Positive", "Steps"]

Steps = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=2)]
"""A length relative to the radius; 2 crosses the whole ball, so more is never meant."""
