"""What each kind of method must be able to do.

A *method* (attack, corruption, defense, architecture, regularizer, analysis) is a frozen dataclass whose fields are the
hyper-parameters of its paper, with the paper's defaults, and it has one algorithm method.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.arguments import (
    ImagesLike,
    LabelsLike,
    RngLike,
    as_batch,
    as_labels,
    as_rng,
    expect_classes,
    expect_pixels,
    needs_rng,
)
from robust_eval.classifier import (
    Classifier,
    ModelLike,
    answering,
    as_classifier,
    device_of,
    misclassified,
)
from robust_eval.data import Examples
from robust_eval.errors import DataError
from robust_eval.findings import Measurement
from robust_eval.rng import Rng
from robust_eval.threat import Bound, Spatial, Threat
from robust_eval.types import AttackResult, Images, Labels, StochasticModule

__all__ = [
    "FEW",
    "Analysis",
    "Architecture",
    "Attack",
    "Batch",
    "Certificate",
    "Corruption",
    "Defense",
    "Passes",
    "Plot",
    "Regularizer",
    "Stage",
    "walk",
]


class Attack(ABC):
    """A search for a small perturbation that changes the prediction. Subclasses are frozen dataclasses."""

    minimal_norm: ClassVar[bool] = False
    """True if the attack looks for the smallest perturbation and has no ``eps`` field."""
    norms: ClassVar[tuple[Bound, ...]] = ("linf", "l2")
    own_units: ClassVar[bool] = False
    """True if what bounds the attack is given in other units than pixels: a radius for all attacks is not for it."""
    min_classes: ClassVar[int] = 2
    """Fewest classes of a model for which the attack is defined."""
    gradients: ClassVar[bool] = True
    """False if the attack sees only outputs."""
    adapts: ClassVar[bool] = True
    """False if the attack is run on the model as it is, without gradients mended or averaged over draws."""
    baseline: ClassVar[bool] = False
    """True if any attack worth its name must beat this one: noise, or what was made for another model."""
    asks_model: ClassVar[bool] = True
    """False if the images are made without asking the attacked model: random points, or points for another model."""
    single_step: ClassVar[bool] = False
    """True if the attack is a method of one step: in a larger ball it may overshoot."""
    beats_single_step: ClassVar[bool] = True
    """False if one step of FGSM in the same ball may break more images, as of an attack that looks for the nearest
    error. Asked only of those that go many steps by gradients within a radius."""

    @property
    @abstractmethod
    def threat(self) -> Threat | Spatial:
        """The ball this attack stays in, or how far it turns and shifts an image."""

    @abstractmethod
    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch that the model classifies correctly; ``rng`` carries one row per example."""

    def cost(self, classes: int) -> Passes | None:
        """Return the passes an image costs at most, one that resists to the end; ``None`` if nobody knows."""
        return None

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Return what is wrong with these parameters for images of this shape [c,h,w]; ``None`` if nothing is."""
        return None

    @needs_rng
    def __call__(self, model: ModelLike, x: ImagesLike, y: LabelsLike, *, rng: RngLike) -> Images:
        """Return ``x_adv``, where the images are, for a batch in [0, 1] [n,c,h,w] with labels [n].

        Examples that the model already misclassifies are handed back untouched. A stream without rows draws for each
        image by its pixels, so that neither the order nor the rest of the batch decides. Raises ``DataError`` for
        pixels outside [0, 1] and for labels beyond the classes of the model. A bare network, arrays and a seed do as
        well: ``attack(net, x, y, rng=0)``.
        """
        model, rng, given = as_classifier(model), as_rng(rng), as_batch(x)
        x = given.to(device_of(model.network) or given.device)
        y = as_labels(y, x)
        rng = rng.for_images(x)
        if not len(x):
            return given.clone()
        expect_pixels("attack", x)
        x_adv = x.clone()
        with model.frozen():
            with answering(x):
                logits = model.logits(x, rng=rng.child("clean"))
            expect_classes(y, logits.shape[1], self.min_classes)
            correct = ~misclassified(logits, y)
            if correct.any():
                x_adv[correct] = self.run(model, x[correct], y[correct], rng=rng.select(correct)).x_adv
        return x_adv.to(given.device)


class Corruption(ABC):
    """A change of the image that nobody optimised: noise, blur, weather, compression."""

    group: ClassVar[str]
    """noise, blur, weather, digital or deformation; the last has no field ``severity``."""
    sweeps: ClassVar[tuple[str, ...]] = ("severity",)
    """Fields that may be lists in an experiment file, one cell for each value."""
    at_once: ClassVar[int] = 1 << 17
    """How many values it works on at a time on a CPU, about what its cache holds."""

    @abstractmethod
    def apply(self, x: Images, *, rng: Rng) -> Images:
        """Corrupt a batch; the result may leave [0, 1] and is clipped by the caller."""

    @needs_rng
    def __call__(self, x: ImagesLike, *, rng: RngLike) -> Images:
        """Return the corrupted batch [n,c,h,w], clipped to [0, 1], on the device and in the dtype of ``x``.

        It is worked on in parts, so that what is needed beside it does not grow with it. A stream without rows draws
        for each image by its pixels. Raises ``DataError`` for pixels outside [0, 1]. An array and a seed do as well.
        """
        x = as_batch(x)
        out, rng = torch.empty_like(x), as_rng(rng).for_images(x)
        if not len(x):
            return out
        expect_pixels("corruption", x)
        # a GPU has to be kept busy
        at_once = self.at_once if x.device.type == "cpu" else 1 << 26
        size = max(1, at_once // x[0].numel())
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            made = self.apply(x[part], rng=rng.select(part))
            if not isinstance(made, Tensor) or made.shape != out[part].shape:
                got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
                raise DataError(
                    f"{type(self).__qualname__}.apply: expected a tensor of {list(out[part].shape)}, got {got}"
                )
            out[part] = made.clamp(0, 1)
        return out


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

    def cost(self, images: int, classes: int) -> Passes | None:
        """Return the passes that a look at so many images costs at most, of both sets together; ``None`` if nobody
        knows.
        """
        return Passes(images, 0)


class Architecture(ABC):
    """A family of networks. Subclasses are frozen dataclasses whose fields are width, depth and the like."""

    head: ClassVar[str] = "linear.weight"
    """Name of the weight whose first dimension is the number of classes."""

    @abstractmethod
    def build(self, *, channels: int, classes: int) -> nn.Module:
        """Return a freshly initialised staged network for images with ``channels`` channels."""


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
    def loss(self, model: nn.Module, x: Images, y: Labels, *, rng: Rng, progress: float) -> Float[Tensor, ""]:
        """Return the scalar loss of a batch; ``progress`` in [0, 1] is how much of the training is done."""

    def evaluations(self, n: int) -> int:
        """How many images pass through the network for a batch of ``n`` (an attack inside the loss counts)."""
        return n

    def stages(self) -> list[Stage]:
        """The stages this method trains in; one, unless it is a schedule of others."""
        return [Stage(self, 1.0)]


FEW = 4
"""Forward passes outside a walk: at its ends, for the candidates, to confirm."""


class Passes(NamedTuple):
    """Passes through the network for one image, at most."""

    forwards: int
    backwards: int

    def times(self, count: int) -> Passes:
        """Return the passes of so many walks."""
        return Passes(self.forwards * count, self.backwards * count)

    def and_(self, other: Passes) -> Passes:
        """Return the passes of both."""
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)


def walk(steps: int, *, columns: int = 1, forwards: int = 1) -> Passes:
    """A gradient in so many columns at each step, and forward passes beside it: one confirms what is proposed."""
    return Passes(steps * (1 + forwards) + FEW, steps * columns)
