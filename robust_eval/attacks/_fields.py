"""Types of the fields that several attacks have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robust_eval.fields import Real, Whole

__all__ = ["Fraction", "Steps"]

Steps = Annotated[Whole, Field(ge=1)]
Fraction = Annotated[Real, Field(gt=0, le=2)]
"""A length relative to the radius; 2 crosses the whole ball, so more is never meant."""
