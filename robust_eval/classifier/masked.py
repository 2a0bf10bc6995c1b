"""A model that sees only some pixels of its input change: what an attack asks when the others are out of its reach.

The attack is given the free pixels alone, laid out as an image; each question is put to the model with the rest of the
clean image around them. So every step, every random start and every projection is one of the free pixels, and the ball
is the ball there: no attack needs to know of a mask. Which image a row belongs to is told by the ids of the stream of
random numbers, which every attack hands on with each question.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from robust_eval.arguments import ImagesLike, RngLike, as_rng
from robust_eval.classifier.classifier import Classifier, Gradient, Loss
from robust_eval.classifier.ledger import Ledger
from robust_eval.errors import DataError
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits

__all__ = ["Layout", "Masked", "View", "views"]

Layout = Literal["pixels", "crop", "image"]
"""What an attack is given of a masked image: the free ``pixels`` in a line for each channel; the smallest ``crop`` that
holds them, for one that moves squares; or the whole ``image``. Of the latter two, what is not free has no effect."""


Parts = Float[Tensor, "n channels rows columns"]
"""What an attack is given of some images."""


class View(NamedTuple):
    """Images whose masked parts have the same shape, and where the parts lie."""

    rows: Int[Tensor, " n"]
    """Which of the images they are."""
    places: Int[Tensor, "n d"]
    """Of each value of the part in the flattened image."""
    free: Bool[Tensor, "n d"]
    """Which values of the part may change."""
    shape: tuple[int, int, int]
    """Of the part."""


def views(free: Bool[Tensor, "n c h w"], layout: Layout) -> Iterator[View]:
    """Yield the images in groups of one shape of their masked parts; those that may not change at all are in none."""
    n, channels, height, width = free.shape
    alike = bool((free == free[:, :1]).all())
    groups: dict[tuple[int, int, int], list[tuple[int, Tensor]]] = {}
    for row in range(n):
        if not free[row].any():
            continue
        if layout == "pixels":
            places = free[row].flatten().nonzero()[:, 0]
            shape = (channels, 1, len(places) // channels) if alike else (1, 1, len(places))
        else:
            top, bottom, left, right = _box(free[row]) if layout == "crop" else (0, height, 0, width)
            every = torch.arange(channels * height * width, device=free.device).view(channels, height, width)
            places = every[:, top:bottom, left:right].flatten()
            shape = (channels, bottom - top, right - left)
        groups.setdefault(shape, []).append((row, places))
    for shape, members in groups.items():
        rows = torch.tensor([row for row, _ in members], device=free.device)
        together = torch.stack([places for _, places in members])
        yield View(rows, together, free[rows].flatten(1).gather(1, together), shape)


def _box(free: Bool[Tensor, "c h w"]) -> tuple[int, int, int, int]:
    """Return the rows and columns of the smallest box that holds all free pixels."""
    rows, columns = free.any(0).any(1).nonzero()[:, 0], free.any(0).any(0).nonzero()[:, 0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


class Masked(Classifier):
    """A classifier of the free parts of some images.

    ``seen`` is the classifier that is asked, ``x`` the clean images [n,c,h,w] of the view's rows, and ``ids`` what the
    stream of random numbers calls them.
    """

    def __init__(self, seen: Classifier, x: Images, view: View, ids: Int[Tensor, " n"]) -> None:
        self.seen, self.x, self.view = seen, x, view
        self.network, self.precision, self.decides = seen.network, seen.precision, seen.decides
        self.accelerate, self.compiled = seen.accelerate, seen.compiled
        # looked up by id: attacks ask about some rows, in any order, and about one several times
        self._row = torch.full((int(ids.max()) + 1,), -1)
        self._row[ids.cpu()] = torch.arange(len(ids))

    @property
    def part(self) -> Parts:
        """The free parts of the clean images."""
        return self.x.flatten(1).gather(1, self.view.places).view(-1, *self.view.shape)

    def whole(self, part: Parts, rows: Int[Tensor, " n"] | None = None) -> Images:
        """Return the images with these parts in them; pixels that are not free are the clean ones."""
        every = torch.arange(len(self.x), device=part.device) if rows is None else rows
        clean, places, free = self.x[every].flatten(1), self.view.places[every], self.view.free[every]
        clean = clean.to(part.dtype)
        inside = torch.where(free, part.flatten(1), clean.gather(1, places))
        return clean.scatter(1, places, inside).view(-1, *self.x.shape[1:])

    # what it says of itself is what the classifier behind it says

    @property
    def stops_early(self) -> bool:
        """Whether an example leaves an attack at the first point that fools the model."""
        return self.seen.stops_early

    @property
    def stochastic(self) -> bool:
        """Whether the output depends on draws."""
        return self.seen.stochastic

    @property
    def proposes(self) -> bool:
        """Whether gradients come in a lower precision than logits."""
        return self.seen.proposes

    @property
    def slow_because(self) -> str | None:
        """Why the network is asked as it is and not through a faster twin."""
        return self.seen.slow_because

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        """Images at a time."""
        return self.seen.batch_size

    @property
    def ledger(self) -> Ledger:  # type: ignore[override]
        """Where passes are counted."""
        return self.seen.ledger

    def calls(self, draws: int) -> int:
        """Return how many calls make at least so many draws."""
        return self.seen.calls(draws)

    @contextmanager
    def frozen(self) -> Iterator[Classifier]:
        """Hold the network in eval mode."""
        with self.seen.frozen():
            yield self

    def logits(self, x: ImagesLike, *, rng: RngLike | None = None) -> Logits:
        """Return the logits of the images with these parts."""
        whole, stream, _ = self._asked(x, rng)
        return self.seen.logits(whole, rng=stream)

    def proposal(self, x: ImagesLike, *, rng: RngLike | None = None) -> Logits:
        """Return their logits in the precision of the gradients."""
        whole, stream, _ = self._asked(x, rng)
        return self.seen.proposal(whole, rng=stream)

    def input_gradient(
        self, x: ImagesLike, y: Int[Tensor, "n ..."], loss: Loss, *, rng: RngLike | None = None
    ) -> Gradient:
        """Return the logits and the gradient of the loss with respect to the parts."""
        whole, stream, rows = self._asked(x, rng)
        logits, gradient = self.seen.input_gradient(whole, y, loss, rng=stream)
        part = self._part_of(gradient, rows)
        if stream.index is not None:  # a gradient that lies outside of the mask is none
            blind = (part.flatten(1).abs().amax(1) == 0) & (gradient.flatten(1).abs().amax(1) > 0)
            self.ledger.add("zero_gradients", stream.index, blind)
        return Gradient(logits, part)

    def jacobian(
        self,
        x: ImagesLike,
        classes: Int[Tensor, "n m"],
        *,
        minus: Labels | None = None,
        rng: RngLike | None = None,
    ) -> tuple[Logits, Float[Tensor, "n m c h w"]]:
        """Return the logits and their gradients with respect to the parts."""
        whole, stream, rows = self._asked(x, rng)
        logits, jacobian = self.seen.jacobian(whole, classes, minus=minus, rng=stream)
        columns = [self._part_of(jacobian[:, column], rows) for column in range(jacobian.shape[1])]
        return logits, torch.stack(columns, 1)

    def _part_of(self, gradient: Images, rows: Int[Tensor, " n"]) -> Parts:
        part = gradient.flatten(1).gather(1, self.view.places[rows]) * self.view.free[rows]
        return part.view(-1, *self.view.shape)

    def _asked(self, part: ImagesLike, rng: RngLike | None) -> tuple[Images, Rng, Int[Tensor, " m"]]:
        stream = None if rng is None else as_rng(rng)
        assert isinstance(part, Tensor)
        if stream is None or stream.index is None:
            raise DataError(
                "mask: expected an attack that hands its stream on with each question (model.logits(x, rng=rng)), got "
                "one without: give it, or attack without a mask"
            )
        rows = self._row[stream.index.cpu()].to(part.device)
        return self.whole(part, rows), stream, rows
