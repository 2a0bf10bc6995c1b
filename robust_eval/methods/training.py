"""What an architecture and a regularizer must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.errors import THEIRS, ConfigError, RobustEvalError
from robust_eval.findings import reason
from robust_eval.rng import Rng
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import Images, Labels, Weights

__all__ = ["Architecture", "Regularizer", "Stage"]


class Architecture(ABC):
    """A family of networks. Subclasses are frozen dataclasses whose fields are width, depth and the like."""

    head: ClassVar[str] = "linear.weight"
    """Name of the weight whose first dimension is the number of classes."""

    @abstractmethod
    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised staged network for images with ``channels`` channels."""

    def network(self, *, channels: int, classes: int) -> nn.Module:
        """Return what :meth:`build` gives; raises ``ConfigError``, one line, where that is no module or it raises."""
        place = f"{type(self).__qualname__}.build"
        try:
            with surroundings_kept():
                made: object = self.build(channels=channels, classes=classes)
        except RobustEvalError:
            raise
        except THEIRS as error:
            raise ConfigError(f"{place} raised {reason(error)}") from error
        if not isinstance(made, nn.Module):
            raise ConfigError(f"{place}: expected an nn.Module, got {type(made).__name__}")
        return made


class Stage(NamedTuple):
    """One part of a training recipe."""

    regularizer: Regularizer
    share: float
    """Fraction of the recipe's network evaluations spent here, in (0, 1]."""
    hand_over: Literal["last", "best"] = "last"
    """Which weights the next stage starts from: the last ones, or those with the best validation accuracy."""
    give_up_after: int | None = None
    """Passes without a higher validation accuracy after which the rest of the share goes to the next stage."""
    continues: bool = False
    """Whether training goes on from the stage before as if both were one: with its optimizer, momentum and averaged
    weights, and one learning-rate schedule over both. Else all of them begin anew."""


class Regularizer(ABC):
    """A training loss that shapes what a network learns. Subclasses are frozen dataclasses."""

    @abstractmethod
    def loss(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        *,
        rng: Rng,
        progress: float,
        weights: Weights | None = None,
    ) -> Float[Tensor, ""]:
        """Return the scalar loss of a batch; ``progress`` in [0, 1] is how much of the training is done.

        ``weights`` say how much each image counts, with mean 1. Only one that ``takes_weights`` is given them, and may
        else leave the parameter out.
        """

    @property
    def takes_weights(self) -> bool:
        """Whether the loss can weigh images, as some curricula ask for."""
        return False

    def companion(self, network: nn.Module, images: int, *, rng: Rng) -> nn.Module | None:
        """Return what is trained beside a network on so many images and gone afterwards, if there is such.

        ``loss`` is given it as ``companion``, and ``rng.index`` there are the images of the batch. It is trained
        without momentum and decay: what has no gradient in a step stays.
        """
        return None

    def evaluations(self, n: int) -> int:
        """How many images pass through the network for a batch of ``n`` (an attack inside the loss counts)."""
        return n

    def stages(self) -> list[Stage]:
        """The stages this method trains in; one, unless it is a schedule of others."""
        return [Stage(self, 1.0)]
