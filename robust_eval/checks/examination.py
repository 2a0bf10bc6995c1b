"""The wish to know how far a model's numbers can be trusted, as data; :mod:`robust_eval.evaluation` makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robust_eval.methods import Passes
from robust_eval.registry import register
from robust_eval.threat import Pixels

__all__ = ["Examination", "Level"]

Level = Literal["answers", "quick", "full"]
IMAGES: dict[Level, int] = {"answers": 128, "quick": 32, "full": 128}
PASSES: dict[Level, Passes] = {"answers": Passes(11, 0), "quick": Passes(210, 30), "full": Passes(1400, 300)}
"""What an image costs that resists, as measured on an adversarially trained network."""


@register("examination", "examination", version=2)
@dataclass(frozen=True, kw_only=True)
class Examination:
    """The checks on a model as an attack sees it."""

    level: Level = "quick"
    """``quick`` costs a small part of an evaluation; ``full`` asks four times as many images, and more of each;
    ``answers`` attacks nothing, and makes those checks alone that concern every number."""
    norm: Literal["linf", "l2"] = "linf"
    eps: Pixels = 8 / 255
    """Radius that the model is attacked at, in units of the [0, 1] pixel range."""
    norm_only: bool = False
    """Whether checks that do not depend on the norm are left to another examination of the model."""

    @property
    def images(self) -> int:
        """How many images are looked at."""
        return IMAGES[self.level]

    @property
    def cost(self) -> Passes:
        """About how many passes an image costs that resists."""
        return PASSES[self.level]
