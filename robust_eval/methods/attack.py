"""What an attack must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

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
from robust_eval.classifier import Classifier, ModelLike, answering, as_classifier, device_of, misclassified
from robust_eval.classifier.masked import Layout
from robust_eval.methods.passes import Passes
from robust_eval.rng import Rng
from robust_eval.surroundings import surroundings_kept
from robust_eval.threat import Bound, Spatial, Threat
from robust_eval.types import AttackResult, Images, Labels, Mask

__all__ = ["Attack"]


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
    masked_as: ClassVar[Layout | None] = "image"
    """What the attack is given where only some pixels may change (:mod:`robust_eval.classifier.masked`); ``None`` if it
    cannot be held to a mask."""
    single_step: ClassVar[bool] = False
    """True if the attack is a method of one step: in a larger ball it may overshoot."""
    usual_share: ClassVar[float] = 1.0
    """Part of its bound that an attack for the smallest perturbation takes of most networks; 1 where it never stops
    early."""
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

    def substitute(self, classes: int) -> str | None:
        """Return what stands in for parts that are not defined for so few classes; ``None`` where nothing has to."""
        return None

    def own_class(self, y: Labels) -> Mask:
        """Return which labels are the one class that the attack pushes every image to: it asks nothing of those."""
        target = getattr(self, "target", None)
        return y == target if isinstance(target, int) else torch.zeros_like(y, dtype=torch.bool)

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Return what is wrong with these parameters for images of this shape [c,h,w]; ``None`` if nothing is."""
        return None

    @needs_rng
    def __call__(self, model: ModelLike, x: ImagesLike, y: LabelsLike, *, rng: RngLike) -> Images:
        """Return ``x_adv``, where the images are, for a batch in [0, 1] [n,c,h,w] with labels [n].

        Examples that the model already misclassifies, or that are of the one class it is pushed to, are handed back
        untouched. A stream without rows draws for each
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
        with model.frozen(), surroundings_kept():
            with answering(x):
                logits = model.logits(x, rng=rng.child("clean"))
            expect_classes(y, logits.shape[1], self.min_classes)
            correct = ~misclassified(logits, y)
            correct &= ~self.own_class(y)
            if correct.any():
                x_adv[correct] = self.run(model, x[correct], y[correct], rng=rng.select(correct)).x_adv
        return x_adv.to(given.device)
