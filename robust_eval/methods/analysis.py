"""What an analysis must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import pandas as pd
from jaxtyping import Int
from torch import Tensor, nn

from robust_eval.classifier import Classifier
from robust_eval.findings import Measurement
from robust_eval.methods.passes import Passes
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels

__all__ = ["Analysis", "Batch", "Plot"]


class Batch(NamedTuple):
    """Images in [0, 1] with labels in 0..classes-1, on the device of the model."""

    x: Images
    y: Labels
    classes: int


class Plot(NamedTuple):
    """How the table of an analysis is drawn: names of its columns."""

    title: str
    x: str
    y: str
    """Where no column has this name, the title of the axis: the share of rows in each step of ``x``."""
    mark: Literal["line", "bar"] = "line"
    split: str | None = None
    """A column of words: one small chart for each."""


class Analysis(ABC):
    """A look at what a model does beyond how often it is right. Subclasses are frozen dataclasses."""

    compares: ClassVar[bool] = False
    """True if it needs a second set of images."""
    needs_training: ClassVar[bool] = False
    """True if it looks at training images."""
    needs_labels: ClassVar[bool] = False
    """True if the second set must have labels, of the classes of the model."""
    needs_stages: ClassVar[bool] = False
    """True if it looks at the stages of a network."""
    by_name: ClassVar[bool] = False
    """True if it is done only where it is named, not as one of ``all``: it is an experiment of its own."""
    plot: ClassVar[Plot | None] = None

    @abstractmethod
    def look(
        self, model: Classifier, images: Batch, *, other: Batch | None, training: Batch | None, rng: Rng
    ) -> pd.DataFrame:
        """Return what is found, as a table of words and numbers.

        ``other`` and ``training`` (a draw of at most 4,096 images) are there for those that ask for them; ``rng``
        carries one row for each of the ``images``. Raises ``DataError`` for a model or images that cannot be looked at
        in this way.
        """

    @abstractmethod
    def summary(self, table: pd.DataFrame) -> tuple[Measurement, ...]:
        """Return the few numbers of a table that a reader compares models by."""

    def misfit(self, network: nn.Module) -> str | None:
        """Return why such a network, trained or not, cannot be looked at in this way; ``None`` if it can."""
        return None

    def lacks(self, measured: Labels, training: Int[Tensor, " m"] | None) -> str | None:
        """Return which images are missing, by the labels of those measured and of all training images; ``None`` if none
        are.
        """
        return None

    def cost(self, images: int, classes: int) -> Passes | None:
        """Return the passes that a look at so many images costs at most, of both sets together; ``None`` if nobody
        knows.
        """
        return Passes(images, 0)
