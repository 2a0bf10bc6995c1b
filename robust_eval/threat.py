"""What an adversary may do: norms and radii, how they are read and how they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor

from robust_eval.bounds import LARGEST
from robust_eval.errors import ConfigError
from robust_eval.types import Images

__all__ = [
    "Access",
    "Ball",
    "Bound",
    "Norm",
    "Pixels",
    "Spatial",
    "Threat",
    "bare_norm",
    "column_text",
    "length_text",
    "misfit",
    "parse_number",
    "parse_radius",
    "short_text",
    "threat_text",
]

Ball = Literal["linf", "l2", "l1"]
"""Norms in the strict sense: what lies within a radius is convex, and attacks walk and project in it."""

Norm = Literal["linf", "l2", "l1", "l0"]
"""What the length of a perturbation is measured by; l0 counts the pixels that change.

Pixels, not values: one that changes in any of its channels counts once, as for Sparse-RS (arXiv 2006.12834), SparseFool
and sparse-PGD, and as a person counts them. Sigma-zero's authors and Foolbox count values, up to three a pixel.
"""

Bound = Literal["linf", "l2", "l1", "l0", "spatial"]
"""What limits an adversary: a norm, or how far an image may be turned and shifted, which no norm measures."""


def parse_number(value: Any) -> Any:
    """Turn ``"8/255"`` or ``"0.5"`` into a float; anything else passes unchanged for the type check to judge."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number or a fraction such as '8/255', got {value}")
    if not isinstance(value, str):
        return value
    text = value.replace(" ", "")
    try:
        # a fraction would write all the digits of 1e999999999
        return float(text) if "e" in text.lower() else float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"expected a number or a fraction such as '8/255', got {value[:40]!r}") from None


def parse_radius(value: Any) -> float | None:
    """Return the finite number >= 0 that a value or a text says; ``None`` if it says none."""
    try:
        number = parse_number(value)
    except ValueError:
        return None
    return float(number) if isinstance(number, int | float) and 0 <= number < math.inf else None


Pixels = Annotated[float, BeforeValidator(parse_number), Field(ge=0, le=LARGEST, allow_inf_nan=False)]
"""A length in units of the [0, 1] pixel range; ``"8/255"`` is accepted."""


@dataclass(frozen=True)
class Threat:
    """What the adversary may do: stay within ``eps`` of the image in ``norm``; ``eps=None`` means the smallest
    perturbation that fools the model is looked for.
    """

    norm: Norm
    eps: float | None

    def __post_init__(self) -> None:
        if self.norm == "linf" and self.eps is not None and self.eps > 1:
            raise ConfigError(
                f"eps: expected a linf radius in [0, 1], as pixels are, got {self.eps:g}; "
                f"did you mean '{self.eps:g}/255'?"
            )
        if (problem := misfit(self.eps, self.norm)) is not None:
            raise ConfigError(f"eps: {problem}")

    def distance(self, x: Images, x_other: Images) -> Float[Tensor, " n"]:
        """Per-example distance between two batches in this threat's norm, measured in float64."""
        delta = (x_other.double() - x.double()).flatten(1)
        if self.norm == "l0":
            changed: Tensor = (x_other != x).any(1).flatten(1).sum(1).double()
            return changed
        if self.norm == "linf":
            return delta.abs().amax(1) if delta.shape[1] else delta.sum(1)
        length: Tensor = delta.norm(p=2 if self.norm == "l2" else 1, dim=1)
        return length


@dataclass(frozen=True)
class Spatial:
    """What an adversary may do who turns and shifts an image: no norm bounds that, and no radius compares with it."""

    norm: ClassVar[Literal["spatial"]] = "spatial"

    degrees: float
    """Largest angle in either direction."""
    translation: float
    """Largest shift in each direction, as a fraction of the side."""

    @property
    def eps(self) -> float:
        """The largest angle in degrees: what stands in the place of a radius."""
        return self.degrees

    def distance(self, x: Images, x_other: Images) -> Float[Tensor, " n"]:
        """Per-example linf distance between two batches: for information, nothing is bounded by it."""
        return Threat("linf", None).distance(x, x_other)


def bare_norm(norm: str) -> str:
    """Return the norm of one that stands with a mask (``linf within a mask of ...``); any other as it is."""
    return norm.partition(" ")[0]


def misfit(eps: float | None, norm: str) -> str | None:
    """Return what is wrong with a radius that is a number >= 0; ``None`` if nothing is."""
    if bare_norm(norm) != "l0" or eps is None or float(eps).is_integer():
        return None
    return f"expected a whole number of pixels in l0, got {eps:g}"


def length_text(eps: float, norm: str) -> str:
    """Return a radius as it is spoken of: linf in 255ths, l0 in pixels, an angle in degrees, others plain.

    Six digits if three would lie.
    """
    if norm == "spatial":
        return f"±{short_text(eps)}°"
    if bare_norm(norm) == "l0":
        return f"{short_text(eps)} pixel{'' if eps == 1 else 's'}"
    return f"{short_text(eps * 255)}/255" if bare_norm(norm) == "linf" else short_text(eps)


def threat_text(norm: str, eps: float | None) -> str:
    """Return ``linf 8/255``, or ``l2 minimal`` for an attack that looks for the smallest perturbation."""
    bare, space, mask = norm.partition(" ")
    return f"{bare} {'minimal' if eps is None else length_text(eps, norm)}{space}{mask}"


def column_text(norm: str, eps: float | None) -> str:
    """Return what :func:`threat_text` does at the width of a column: of a mask, its share and its name."""
    text = threat_text(norm, eps)
    return text.replace(" within a mask of ", " mask ").replace(" % of the pixels ", "% ")


def short_text(value: float) -> str:
    """Return a number in three digits, in six where three would lie."""
    text = f"{value:.3g}"
    return text if math.isclose(float(text), value, rel_tol=1e-6) else f"{value:.6g}"


Access = Literal["none", "transfer", "adaptive"]
"""What the attacker of a defended model sees: ``transfer`` is the undefended base, ``adaptive`` the whole."""


DEFAULT_RADIUS = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 20.0}
"""Radii of the common benchmarks at 32 pixels, in units of the [0, 1] pixel range; l0 in pixels, as sparse-PGD
(arXiv 2405.05075) on CIFAR-10."""


ANY_IMAGE = 1.0
"""The linf radius that allows every image in [0, 1]: where an attack without a radius is scored."""
