"""What a test-time defense must be able to do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.classifier import Classifier
from robust_eval.data import Examples
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, StochasticModule

__all__ = ["Certificate", "Defense"]


class Certificate(NamedTuple):
    """What provably holds for each image, each with the confidence that the method states."""

    prediction: Labels
    """The class that no perturbation shorter than the radius can change; -1 where the method abstains."""
    radius: Float[Tensor, " n"]
    """In l2, in units of the [0, 1] pixel range; 0 where the method abstains."""


class Defense(ABC):
    """A change of how a trained model is used at test time. Subclasses are frozen dataclasses."""

    needs_pool: ClassVar[bool] = False
    """True if the defense mixes with training images."""

    @property
    def stochastic(self) -> bool:
        """Whether the defense draws; a deterministic model behind one that does not stays deterministic."""
        return True

    @abstractmethod
    def wrap(self, network: nn.Module, pool: Examples | None = None) -> StochasticModule:
        """Return a module that maps images in [0, 1] to the log of its averaged probabilities.

        It has a gradient, and its draws are set through ``redraw``; it says so if it draws nothing. ``pool`` is
        training data with labels, for those that need it.
        """

    def certify(self, model: Classifier, x: Images, *, rng: Rng) -> Certificate | None:
        """Return what provably holds for a batch of clean images when the undefended ``model`` is so defended.

        ``None`` if nothing does, or if nobody asked for it.
        """
        return None

    @property
    def certificate_passes(self) -> int:
        """How many forward passes of the undefended model the certificate of an image costs."""
        return 0

    @property
    def largest_certificate(self) -> float:
        """The l2 radius that no certificate exceeds, however sure the model is."""
        return math.inf

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Return what is wrong with these parameters for images of this shape [c,h,w]; ``None`` if nothing is."""
        return None
