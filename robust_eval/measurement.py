"""One number, with what chance allows it to be."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Measurement"]


@dataclass(frozen=True)
class Measurement:
    """One number with its 95 % interval."""

    metric: str
    """``accuracy`` (0..1), ``median_distance`` (in the attack's norm) and others by name."""
    value: float | None
    """``None`` where the number does not exist, such as the median distance when most examples resist."""
    ci_low: float | None
    ci_high: float | None
    n: int
    eps: float | None = None
    """The radius it was measured at, in units of the [0, 1] pixel range."""
