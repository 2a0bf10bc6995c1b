"""Bring back gradients that vanish, without a change of the decisions.

A gradient that is exactly zero says nothing about the model, and a walk along it goes nowhere: the accuracy that it
leaves is not robustness. Three remedies, tried in this order on a few images and their surroundings until the gradient
of the cross-entropy is there for 99 % of them:

- *inverse*: the model returns probabilities or sigmoid outputs; what they were made of is a valid set of logits
  (:mod:`.links`; always taken: a softmax of probabilities flattens every loss).
- *scale*: the logits are so far apart that the cross-entropy rounds to zero (temperature; Carlini and Wagner 2016,
  arXiv 1607.04311, met it in distilled networks). They are divided by one number, which changes no argmax.
- *straight-through*: rounding, casts and cuts are passed through (:mod:`.straight_through`).

Gradients may also be missing at a part of the pixels only. Those are looked for afterwards (:mod:`.blind_pixels`), and
brought back by a gradient taken just inside the box, by straight-through steps, or by both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from robust_eval.adaptive.blind_pixels import REMEDIES, TOLERATED, jumping, points_of, told, untold
from robust_eval.adaptive.links import Link, inverted, link_of, saturated
from robust_eval.adaptive.straight_through import StraightThrough
from robust_eval.classifier import Classifier, Ledger
from robust_eval.errors import THEIRS, NoGradientError
from robust_eval.rng import Rng, rewound, seeded
from robust_eval.types import Images, Labels, Logits, StochasticModule

log = logging.getLogger(__name__)

__all__ = ["INSIDE_WORDS", "Mended", "Mending", "mend"]

AROUND = 8 / 255
"""How far around an image the gradient is looked at, in units of the [0, 1] pixel range."""
CONFIDENT = 10.0
"""Lead of the first logit over the second on the surest images of a scaled model: there softmax has digits left."""
DRIFT = 1e-4
"""By how much a mended output may differ from the model's, relative to the largest."""


INSIDE_WORDS = "gradients taken just inside the box"
"""The remedy where gradients are missing at black or white pixels."""
_INVERSES: dict[Link, str] = {
    "softmax": "the logarithm of the probabilities",
    "sigmoid": "the logits before the sigmoid",
}
_LINKS: dict[Link, Callable[[Logits], Logits]] = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": lambda logits: logits.sigmoid(),
}


class Mended(StochasticModule):
    """A network with the same decisions, seen through remedies; stochastic if the network is."""

    def __init__(
        self,
        network: nn.Module,
        *,
        link: Link | None = None,
        scale: float = 1.0,
        straight_through: bool = False,
        inside: float = 0.0,
        saturations: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.link = link
        self.scale = scale
        self.passes = straight_through
        self.inside = inside
        self.saturations = saturations
        self.straight_through = straight_through or inside > 0
        """Whether its gradient is another than that of its values."""
        self.stochastic = isinstance(network, StochasticModule) and network.stochastic
        if isinstance(network, StochasticModule):
            self.copies, self.evaluations = network.copies, network.evaluations

    def redraw(self, rng: Rng) -> None:
        """Fix the draws of the network, if it has any."""
        if isinstance(self.network, StochasticModule):
            self.network.redraw(rng)

    def forward(self, x: Images) -> Logits:
        """Return logits [n,k] whose order is the network's."""
        if not self.straight_through:
            logits: Logits = self.network(x)
            return (logits if self.link is None else inverted(logits, self.link)) / self.scale
        # a remedy that went wrong must not change a value, only its gradient
        with torch.no_grad(), rewound(everywhere=True):
            # out of inference mode, should the network have switched it on
            exact = self._before_link(x, StraightThrough(watches=True)).clone()
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # whatever the network does to that switch
            logits = self._before_link(self._inside(x), self._mode(x))
        return (exact + (logits - logits.detach())) / self.scale

    def _inside(self, x: Images) -> Images:
        """Return the point where the gradient is read, as far from the walls of the box as it should be."""
        if not self.inside:
            return x
        with torch.no_grad():
            moved = x.clamp(self.inside, 1 - self.inside) - x
        return x + moved

    def _mode(self, x: Images) -> StraightThrough:
        if not self.passes:
            return StraightThrough(watches=True)
        return StraightThrough(saturations=x.shape if self.saturations else None)

    def _before_link(self, x: Images, mode: StraightThrough) -> Logits:
        with mode:
            logits: Logits = self.network(x.clone())  # which may write into what it is given
        if self.link is None:
            return logits
        before = mode.before(self.link, logits)
        return inverted(logits, self.link) if before is None else before

    @property
    def traceable(self) -> bool:
        """Whether a trace of its operations would keep its gradient."""
        return not self.straight_through

    @property
    def remedies(self) -> tuple[str, ...]:
        """What was done, in words."""
        return (
            *((_INVERSES[self.link],) if self.link is not None else ()),
            *((f"logits divided by {self.scale:.3g}",) if self.scale != 1 else ()),
            *(("straight-through gradients",) if self.passes else ()),
            *(("clamps passed through",) if self.saturations else ()),
            *((INSIDE_WORDS,) if self.inside else ()),
        )


class Mending(NamedTuple):
    """A network for attacks, and how it fared."""

    network: nn.Module
    """The network itself where nothing had to be done."""
    remedies: tuple[str, ...]
    blind_before: float
    """Share of points whose cross-entropy gradient is zero, not finite, or cut off."""
    blind: float
    """The same after mending."""
    blind_pixels_before: float = 0.0
    """Share of pixels whose gradient is zero or not finite although the output depends on them."""
    blind_pixels: float = 0.0
    """The same after mending."""


def mend(network: nn.Module, x: Images, y: Labels, *, rng: Rng, batch_size: int = 128) -> Mending:
    """Return the network with the first set of remedies that helps; ``x`` [n,c,h,w] is classified as ``y``.

    The best there was where none helps enough.
    """
    whole = _mend_points(network, x, y, rng=rng, batch_size=batch_size)
    return _mend_pixels(whole, x, y, rng=rng, batch_size=batch_size) if len(x) else whole


def _mend_points(network: nn.Module, x: Images, y: Labels, *, rng: Rng, batch_size: int) -> Mending:
    """Bring back gradients that vanish at all pixels of a point."""
    blind_before = _blind(network, x, y, rng, batch_size)
    best = Mending(network, (), blind_before, blind_before)
    if not len(x):
        return best
    outputs = _logits(network, x, rng, batch_size)
    link = link_of(outputs)
    if blind_before <= TOLERATED and link is None:
        return best
    # rescaling is for gradients that vanish, and a mode in every forward for those that nothing else brings back
    tries = [(False, False), (False, True), (True, False), (True, True)]
    if link is not None and saturated(outputs, link):
        # what has rounded is had back from before it did
        tries.sort(reverse=True, key=lambda tried: tried[0])
    for through, scaled in tries:
        mended = Mended(network, link=link, straight_through=through)
        try:
            if scaled:
                mended.scale = _scale(_logits(mended, x, rng, batch_size))
            if not mended.remedies:
                continue
            blind = _blind(mended, x, y, rng, batch_size)
            better = blind < best.blind or (blind <= TOLERATED and best.network is network)
            if better and _agrees(mended, x, y, rng, batch_size):
                best = Mending(mended, mended.remedies, blind_before, blind)
        except THEIRS as error:  # the remedy does not fit this network, whose own code may raise anything
            log.debug("a remedy failed", exc_info=error)
        if best.blind <= TOLERATED and best.network is not network:
            break
    return best


def _mend_pixels(whole: Mending, x: Images, y: Labels, *, rng: Rng, batch_size: int) -> Mending:
    """Bring back gradients that are missing at a part of the pixels."""
    network = whole.network
    points = points_of(x, y, around=AROUND, rng=rng.for_batch(len(x)), batch_size=batch_size)
    try:
        own = points.gradient(network)
        if (own == 0).double().mean() <= TOLERATED:
            return whole
    except THEIRS as error:  # no gradient at all: told already
        log.debug("no gradient of pixels", exc_info=error)
        return whole
    blind = own == 0
    best, found, seen = whole, TOLERATED, own
    for remedy in REMEDIES:
        try:
            mended = _also(network, remedy)
            gradient = points.gradient(mended)
            share = told(network, points, blind, gradient)
            # one remedy more must bring back more pixels
            if share > 1.1 * found and _agrees(mended, x, y, rng, batch_size):
                left = _blind(mended, x, y, rng, batch_size)
                best = whole._replace(network=mended, remedies=mended.remedies, blind=left)
                found, seen = share, gradient
        except THEIRS as error:
            log.debug("a remedy failed", exc_info=error)
    silent = blind & (seen == 0)
    left = untold(network, points, silent, own) or jumping(network, points, silent, own)
    before = left + (found if best is not whole else 0.0)
    return best._replace(blind_pixels_before=before, blind_pixels=left)


def _also(network: nn.Module, remedy: Mapping[str, Any]) -> Mended:
    """Return the network mended by one remedy more."""
    if not isinstance(network, Mended):
        return Mended(network, **remedy)
    fields = {"straight_through": network.passes, **remedy}
    return Mended(network.network, link=network.link, scale=network.scale, **fields)


def _blind(network: nn.Module, x: Images, y: Labels, rng: Rng, batch_size: int) -> float:
    """Return the share of images and of points beside them at which the cross-entropy has no gradient."""
    if not len(x):
        return 0.0
    model = Classifier(network, batch_size=batch_size, accelerate=False)
    model.ledger = ledger = Ledger()
    rng = rng.for_batch(len(x)).child("mend")
    noise = rng.child("noise").uniform(*x.shape[1:], device=x.device).to(x.dtype) * 2 - 1
    beside = (x + AROUND * noise).clamp(0, 1)
    try:
        for place, points in enumerate((x, beside)):
            model.input_gradient(points, y, _cross_entropy, rng=rng.child("point", place))
    except NoGradientError:
        return 1.0
    rows = rng.index
    assert rows is not None
    missing = ledger["zero_gradients"] + ledger["bad_gradients"]
    return missing[rows.cpu()].sum().item() / (2 * len(x))


def _logits(network: nn.Module, x: Images, rng: Rng, batch_size: int) -> Logits:
    """Return logits for draws that are the same each time."""
    with seeded(rng, everywhere=True):
        return Classifier(network, batch_size=batch_size, accelerate=False).logits(x, rng=rng.child("same"))


def _cross_entropy(logits: Logits, y: Labels) -> Tensor:
    return functional.cross_entropy(logits, y, reduction="none")


def _scale(logits: Logits) -> float:
    """Return what to divide by for the surest tenth of the images to be sure by :data:`CONFIDENT`."""
    first, second = logits.double().topk(2, dim=1).values.unbind(1)
    lead = (first - second)[(first - second).isfinite()]
    sure = lead.quantile(0.9).item() if len(lead) else 0.0
    return sure / CONFIDENT if sure > CONFIDENT else 1.0


def _agrees(mended: Mended, x: Images, y: Labels, rng: Rng, batch_size: int) -> bool:
    """Whether the mended network says what the network says, with a gradient and without."""
    logits = _logits(mended.network, x, rng, batch_size)
    model = Classifier(mended, batch_size=batch_size, accelerate=False)
    with seeded(rng, everywhere=True):
        beside = model.input_gradient(x, y, _cross_entropy, rng=rng.child("same")).logits
    for answers in (_logits(mended, x, rng, batch_size) * mended.scale, beside * mended.scale):
        back = answers if mended.link is None else _LINKS[mended.link](answers)
        if (back - logits).nan_to_num().abs().amax() > DRIFT * logits.nan_to_num().abs().amax():
            return False
    return True
