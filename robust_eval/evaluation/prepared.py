"""A cell with what measuring it needs: networks, images, answers to them. Each is made when it is first asked for.

``DEPENDS_ON`` says for everything that cells share which parts of a cell's spec decide it: those it is kept under.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from robust_eval.adaptive import FEW, Adapted, adapt
from robust_eval.adaptive.mending import Mending
from robust_eval.checks import model_checks
from robust_eval.classifier import Classifier, to_eval
from robust_eval.classifier.accelerate import Precision
from robust_eval.classifier.given import black_box
from robust_eval.classifier.memory import images_that_fit
from robust_eval.data import Examples, InTurn
from robust_eval.errors import DataError
from robust_eval.evaluation.kept import Kept
from robust_eval.evaluation.perturbing import Perturbed
from robust_eval.evaluation.scoring import Scored, asked_twice, score
from robust_eval.findings import Check
from robust_eval.identity import content_key
from robust_eval.methods import Attack
from robust_eval.models.source import Loaded, ModelSource
from robust_eval.registry import describe
from robust_eval.results.cell import Cell
from robust_eval.rng import Rng, seeded
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import Images, Labels, StochasticModule

__all__ = ["DEPENDS_ON", "Execution", "Prepared", "Told", "images_of", "untold"]

T = TypeVar("T")
Told = Callable[[str, int, int | None], None]
"""Who is told what is made, how much of it is done, and of how much at most."""
PIXELS_AT_A_TIME = 1 << 19
VALUES_IN_MEMORY = 1 << 24
"""Values of images that a cell holds at a time: 5,461 images of 3x32x32, 111 of 3x224x224."""

DEPENDS_ON: dict[str, tuple[str, ...]] = {
    "loaded": ("model",),
    "images_that_fit": ("model", "data"),
    "checks": ("model", "data", "seed"),
    "defended": ("model", "defense", "pool"),
    "clean": ("model", "defense", "pool", "data", "seed", "draws"),
    "adapted": ("model", "defense", "pool", "data", "seed", "draws", "gradient_draws"),
    "corrupted": ("perturbation", "data", "seed"),
    "attacked": (
        *("model", "defense", "pool", "access"),
        *("perturbation", "mask", "data", "seed", "draws", "gradient_draws"),
    ),
}
"""Parts of the spec that decide what is kept. Attacked images are those of the cell that the attack is aimed at
(:attr:`Prepared.aimed_at`), which by transfer has no defense."""


def untold(stage: str, done: int, of: int | None) -> None:
    """Tell nobody."""


class Execution(NamedTuple):
    """How networks are asked, which changes their answers by rounding at most."""

    device: torch.device
    batch_size: int | None
    """Images at a time; ``None`` for as many as is fast and fits the memory."""
    precision: Precision
    """Of an attack's gradients."""
    compiled: bool
    """Whether attacks ask compiled networks."""


class Prepared:
    """A cell with what measuring it needs, each part made once; what other cells share is kept for them."""

    def __init__(
        self,
        cell: Cell,
        execution: Execution,
        *,
        load: Callable[[ModelSource], Loaded],
        kept: Kept,
        told: Told = untold,
    ) -> None:
        self.told = told
        self.cell = cell
        self.execution = execution
        self._load = load
        self._kept = kept

    @cached_property
    def aimed_at(self) -> Prepared:
        """What the attack is aimed at: this, or by transfer the same without its defense, as if it stood alone."""
        cell = self.cell
        if cell.access == "adaptive" or cell.defense is None:
            return self
        # the smallest perturbation of the undefended model is the same, whoever it is carried over to
        minimal = isinstance(cell.perturbation, Attack) and cell.perturbation.minimal_norm
        alone = replace(cell, defense=None, access="none" if minimal else cell.access)
        # of the same network: that of a large model may be kept no longer
        return Prepared(alone, self.execution, load=lambda _: self.loaded, kept=self._kept, told=self.told)

    # Images

    @property
    def parts(self) -> list[slice]:
        """The parts of the images that are measured one after the other, so that memory does not grow with them."""
        n, size = len(self.cell.data.examples), self.at_a_time
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    @property
    def at_a_time(self) -> int:
        """How many images are held at a time."""
        return max(1, VALUES_IN_MEMORY // math.prod(self.cell.data.examples.shape))

    def images(self, which: slice | Tensor = slice(None)) -> tuple[Images, Labels]:
        """Return some of the images in [0, 1] and their labels, on the device."""
        device = self.execution.device
        return self._in_turn.pixels(which).to(device), self.cell.data.examples.labels[which].to(device)

    @cached_property
    def _in_turn(self) -> InTurn:
        return InTurn(self.cell.data.examples, self.parts)

    def rng(self, part: slice | Tensor) -> Rng:
        """Return the cell's stream of random numbers for some of its images: the same for each in whatever part."""
        places = torch.arange(part.start, part.stop) if isinstance(part, slice) else part
        return Rng(self.cell.seed).rows(places)

    # Networks

    @cached_property
    def loaded(self) -> Loaded:
        """The undefended network in eval mode on the device, with the hash of its weights."""

        def make() -> Loaded:
            loaded = self._load(self.cell.model)
            return loaded._replace(network=to_eval(loaded.network.to(self.execution.device)))

        return self._keep("loaded", make)

    @cached_property
    def base(self) -> Classifier:
        """The undefended model."""
        return self._scores(self.loaded.network)

    @cached_property
    def model(self) -> Classifier:
        """What is scored: the model with its defense, if it has one."""
        cell, defense, pool = self.cell, self.cell.defense, self.cell.pool
        if defense is None:
            return self.base
        if defense.needs_pool and pool is None:
            raise DataError(
                f"defense {describe(defense).name!r} mixes with training images, and {cell.data.name} has none; "
                "name a set of them with --pool, or put train_images and train_labels into the file"
            )
        return self._scores(self._keep("defended", lambda: self._defended(self.loaded.network)))

    @cached_property
    def adapted(self) -> Adapted:
        """What is scored, as attacks need to see it."""
        return self._keep("adapted", self._adapt)

    @cached_property
    def seen(self) -> Classifier:
        """What the attack sees: what it is aimed at, adapted unless the attack wants it as it is."""
        if isinstance(self.cell.perturbation, Attack) and not self.cell.perturbation.adapts:
            return self.unadapted
        return self.followed

    @cached_property
    def followed(self) -> Classifier:
        """What the attack is aimed at, adapted: whose gradients lead somewhere."""
        adapted = self.aimed_at.adapted
        return self._attacked(adapted.network, adapted.decides)

    @cached_property
    def unadapted(self) -> Classifier:
        """What an attack sees that wants it as it is."""
        return self._attacked(self.aimed_at.model.network, None)

    @cached_property
    def batch_size(self) -> int:
        """How many images pass through a network at a time: as asked, else by their size and the free memory.

        256 images of 32 pixels, 10 of 224: more at a time is no faster on a CPU. On a GPU eight times as many.
        """
        device, asked, *_ = self.execution
        if asked is not None:
            return asked
        _, height, width = self.cell.data.examples.shape
        factor = 8 if device.type == "cuda" else 1
        wanted = max(8, factor * min(256, PIXELS_AT_A_TIME // (height * width)))
        return min(wanted, self._keep("images_that_fit", self._images_that_fit) or wanted)

    # Answers

    @cached_property
    def clean(self) -> Scored:
        """How what is scored answers the clean images."""

        def make() -> Scored:
            return Scored.together(
                [
                    score(
                        self.model,
                        *self.images(part),
                        draws=self.cell.draws,
                        rng=self.rng(part).child("clean"),
                    )
                    for part in self.parts
                ]
            )

        return self._keep("clean", make)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The checks on the undefended model's clean outputs."""

        def make() -> tuple[Check, ...]:
            answers = []
            for part in self.parts:
                x, _ = self.images(part)
                answers.append(asked_twice(self.base, x, rng=self.rng(part).child("checks")))
            first, second = map(torch.cat, zip(*answers, strict=True))
            examples = self.cell.data.examples
            labels, names = examples.labels.to(self.execution.device), examples.class_names or ()
            return model_checks(first, second, labels, known=self.base.stochastic, names=names)

        return self._keep("checks", make)

    def perturbed(self, part: slice | Tensor, make: Callable[[], Perturbed]) -> Perturbed:
        """Return some of the images after the cell's perturbation, by ``make`` unless another cell has made them."""
        name = "attacked" if isinstance(self.cell.perturbation, Attack) else "corrupted"
        places = (part.start, part.stop) if isinstance(part, slice) else tuple(part.tolist())
        key = self.aimed_at.key(name, *places)
        known = key in self._kept
        found = self._kept.get(key, lambda: _timed(make))
        return found if known else found._replace(seconds_saved=0.0)

    def key(self, name: str, *more: Hashable) -> tuple[Hashable, ...]:
        """Return what one of ``DEPENDS_ON`` is kept under."""
        spec = self.cell.spec
        return (name, content_key({part: spec.get(part) for part in DEPENDS_ON[name]}), *more)

    def _keep(self, name: str, make: Callable[[], T]) -> T:
        return self._kept.get(self.key(name), make)

    def _scores(self, network: nn.Module) -> Classifier:
        """Return what scores: the network itself, not a faster twin whose logits are equal up to rounding."""
        return Classifier(network, batch_size=self.batch_size, accelerate=False)

    def _attacked(self, network: nn.Module, decides: nn.Module | None) -> Classifier:
        _, _, precision, compiled = self.execution
        return Classifier(
            network,
            decides=decides,
            batch_size=self.batch_size,
            # as the papers did: a point that just fools the base says nothing about the defended model
            stop_when_fooled=self.cell.access != "transfer",
            precision=precision,
            compiled=compiled,
        )

    def _defended(self, network: nn.Module) -> nn.Module:
        assert self.cell.defense is not None
        with surroundings_kept():
            wrapped = self.cell.defense.wrap(network, self.cell.pool)
        if not isinstance(wrapped, nn.Module):
            raise DataError(
                f"{type(self.cell.defense).__qualname__}.wrap: expected a module, got {type(wrapped).__name__}"
            )
        return wrapped.to(self.execution.device)

    @cached_property
    def black_box(self) -> bool:
        """Whether the undefended network has no gradient to look for."""
        return black_box(self.loaded.network)

    def _adapt(self) -> Adapted:
        base = self.loaded.network
        if self.black_box:  # each question counts, and none would bring a gradient
            return Adapted(self.model.network, Mending(base, (), 0.0, 0.0), None)

        def wrap(network: nn.Module) -> nn.Module:
            return self.model.network if network is base else self._defended(network)

        right = (self.clean.prediction.cpu() == self.cell.data.examples.labels).nonzero()[:FEW, 0]
        x, y = self.images(right)
        rng = Rng(self.cell.seed).rows(right).child("adapt")
        with seeded(rng):
            return adapt(
                base,
                x,
                y,
                rng=rng,
                wrap=None if self.cell.defense is None else wrap,
                # an attack that adapts nothing has no part in the spec that says how many
                draws=self.cell.spec.get("gradient_draws"),
                batch_size=self.batch_size,
            )

    def _images_that_fit(self) -> int | None:
        if self.black_box:  # a graph tells what fits
            return None
        one, _ = self.images(slice(0, 1))
        network = self.loaded.network
        if isinstance(network, StochasticModule):
            network.redraw(Rng(0).for_batch(1))
        with seeded(Rng(0)):
            return images_that_fit(network, one)


def images_of(
    examples: Examples, which: slice | Tensor = slice(None), *, device: torch.device
) -> tuple[Images, Labels]:
    """Return some images in [0, 1] [n,c,h,w] and their labels [n], on the device."""
    return examples.pixels(which).to(device), examples.labels[which].to(device)


def _timed(make: Callable[[], Perturbed]) -> Perturbed:
    started = time.perf_counter()
    made = make()
    return made._replace(seconds_saved=time.perf_counter() - started)
