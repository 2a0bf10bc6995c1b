"""Pixels whose gradient is zero or infinite, although the output depends on them: an attack never moves those.

``clamp(0, 1)``, ``relu`` or ``abs`` in front of a network changes none of its answers, and has the gradient 0 at black
or white pixels; ``sqrt`` and gamma have an infinite one there, which no step can follow; a rounded patch or one that is
cut off has none anywhere. Each pixel of a few images, and of points beside them, is looked at: is its gradient exactly
zero or not finite, and does the output change when it is moved?

Remedies, of which the first that brings back most is taken: the gradient is read just inside the box
(:data:`INSIDE`), the steps without one are passed straight through (:mod:`.straight_through`), or both. What a remedy
says of a blind pixel must be what the output does: moving all of them along it must change the margin by a quarter to
four times of what it promises (:func:`_follows`), so that pixels which a model truly ignores are left alone.

What no remedy tells of is marked where pushing blind pixels a little moves the output (:func:`untold`), or pushing them
far makes it jump (:func:`jumping`): a comparison with a threshold is silent until a pixel crosses it. A network of
continuous layers may change then, where a pixel comes to win in a pooling, but within a thousandth of the way it hardly
does. Ours; a jump beyond the radius of an attack is marked too, since no radius is known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from robust_eval.classifier import Classifier
from robust_eval.losses import margin
from robust_eval.rng import Rng, seeded
from robust_eval.types import Images, Labels, Mask

__all__ = ["REMEDIES", "TOLERATED", "Points", "jumping", "points_of", "told", "untold"]

TOLERATED = 0.01
"""Share of blind pixels that is no fault."""
INSIDE = 1 / 128
"""How far inside the box a gradient is read: two grey levels of 8 bits, a step that bfloat16 has near 1."""
REMEDIES: tuple[dict[str, Any], ...] = (
    {"inside": INSIDE},
    {"straight_through": True},
    {"straight_through": True, "inside": INSIDE},
    {"straight_through": True, "inside": INSIDE, "saturations": True},
)
"""The simplest first."""
FEW = 16
LENGTHS = (1 / 512, 8 / 255, 1 / 8)
"""How far pixels are moved, in units of the [0, 1] pixel range: over a wall, and over the step of a coarse rounding."""
FOLLOWS = (0.25, 4.0)
"""Share of the promised change that must come."""
FAR = 0.6
"""How far pixels are pushed inwards to cross a threshold, black ones beyond the middle."""
PARTS, HALVINGS = 16, 10
"""Of that way: the part with the largest change is halved, and the half with the larger change again."""
JUMPS = 0.1
"""Share of the change of a part that is left in its last half, 1/1024 of it, where the output jumps; of a straight line
0.001 is."""
ROUNDING = 1e-4
"""Change of a margin that says nothing, relative to the margin."""


class Points(NamedTuple):
    """Where pixels are looked at: a few images, and points beside them."""

    x: Images
    y: Labels
    rng: Rng
    batch_size: int

    def gradient(self, network: nn.Module) -> Images:
        """Return the gradient of the margin; zero where it is not finite."""
        with seeded(self.rng, everywhere=True):
            return self._model(network).input_gradient(self.x, self.y, margin, rng=self.rng).gradient

    def margin(self, network: nn.Module, x: Images) -> Float[Tensor, " n"]:
        """Return the margin at other points, for the same draws."""
        with seeded(self.rng, everywhere=True):
            return margin(self._model(network).logits(x, rng=self.rng), self.y)

    def _model(self, network: nn.Module) -> Classifier:
        return Classifier(network, batch_size=self.batch_size, accelerate=False)


Blind = Bool[Tensor, "n c h w"]


def points_of(x: Images, y: Labels, *, around: float, rng: Rng, batch_size: int) -> Points:
    """Return the first images [n,c,h,w] and a random point of the linf ball ``around`` each, clipped to the box."""
    x, y, rng = x[:FEW], y[:FEW], rng.select(slice(FEW)).child("pixels")
    noise = rng.child("noise").uniform(*x.shape[1:], device=x.device).to(x.dtype) * 2 - 1
    assert rng.index is not None
    twice = rng.rows(torch.cat([rng.index, rng.index]))
    return Points(torch.cat([x, (x + around * noise).clamp(0, 1)]), torch.cat([y, y]), twice, batch_size)


def told(network: nn.Module, points: Points, blind: Blind, gradient: Images) -> float:
    """Return the share of pixels that are blind, and of which this gradient of another network tells the truth."""
    hidden = blind & (gradient != 0)
    share = hidden.flatten(1).double().mean(1)
    return (share * _follows(network, points, hidden, gradient)).mean().item()


def untold(network: nn.Module, points: Points, blind: Blind, own: Images) -> float:
    """Return the share of pixels that are blind while pushing them inwards moves the output.

    By a quarter or more of what as many pixels of the typical slope would do at random, at half of the points beside
    images that have blind pixels; 0 otherwise. Black pixels tie in a pooling, but not beside the images.
    """
    count = blind.flatten(1).sum(1)
    some = count > 0
    if not some.any():
        return 0.0
    typical = _typical(own, blind)
    before = points.margin(network, points.x)
    moves = torch.zeros_like(some)
    inwards = torch.where(points.x < 0.5, 1.0, -1.0).to(points.x)
    # the longest is left out: it also moves what lost to its neighbours in a pooling
    for i, length in enumerate(LENGTHS[:2]):
        size = points.rng.child("push", i).uniform(*points.x.shape[1:], device=points.x.device)
        pushed = points.x + torch.where(blind, inwards * length * (1 + size.to(points.x)) / 2, 0.0)
        change = (points.margin(network, pushed) - before).abs().double()
        expected = 0.75 * length * count.sqrt() * typical
        moves |= (change > FOLLOWS[0] * expected) & (change > ROUNDING * before.abs()) & (typical > 0)
    beside = some & (torch.arange(len(some), device=some.device) >= len(some) // 2)
    if 2 * (moves & beside).sum() < beside.sum() or not beside.any():
        return 0.0
    return (count / blind[0].numel() * moves).double().mean().item()


def jumping(network: nn.Module, points: Points, blind: Blind, own: Images) -> float:
    """Return the share of pixels that are blind while the output jumps when they are pushed far inwards.

    At half of the points that have blind pixels, by a quarter or more of what one pixel of the typical slope would do
    that is moved by eight grey levels; 0 otherwise, and for a network in half precision, which jumps by rounding. Asks
    28 times about every fourth point, 8 at most.
    """
    some = torch.arange(0, len(points.x), 4, device=points.x.device)
    points = Points(points.x[some], points.y[some], points.rng.select(some), points.batch_size)
    blind, own = blind[some], own[some]
    count = blind.flatten(1).sum(1)
    some = count > 0
    full = all(weight.dtype in (torch.float32, torch.float64) for weight in network.parameters())
    if not some.any() or not full:
        return 0.0
    along = torch.where(blind, torch.where(points.x < 0.5, FAR, -FAR).to(points.x), 0.0)

    def at(done: Tensor) -> Tensor:
        return points.margin(network, points.x + done.to(along).view(-1, 1, 1, 1) * along).double()

    n = len(along)
    way = torch.linspace(0, 1, PARTS + 1, dtype=torch.float64, device=along.device)
    values = torch.stack([at(done.expand(n)) for done in way])
    first, place = values.diff(dim=0).abs().nan_to_num().max(0)
    low, high = way[place], way[place + 1]
    at_low, at_high = (values.gather(0, i[None])[0] for i in (place, place + 1))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        between = at(middle)
        lower = (between - at_low).abs() >= (at_high - between).abs()
        low, at_low = torch.where(lower, low, middle), torch.where(lower, at_low, between)
        high, at_high = torch.where(lower, middle, high), torch.where(lower, between, at_high)
    last, typical = (at_high - at_low).abs(), _typical(own, blind)
    moves = (last > JUMPS * first) & (last > FOLLOWS[0] * LENGTHS[1] * typical) & (typical > 0)
    # what answers otherwise when asked again says nothing
    moves &= (last > ROUNDING * at_low.abs()) & ((at(low) - at_low).abs() < last / 2)
    if 2 * (moves & some).sum() < some.sum():
        return 0.0
    return (count / blind[0].numel() * moves).double().mean().item()


def _typical(own: Images, blind: Blind) -> Float[Tensor, " n"]:
    """Return the typical slope of an image's other pixels: the root of the mean square."""
    slopes = torch.where(blind, 0.0, own).flatten(1).double()
    return (slopes.square().sum(1) / (~blind).flatten(1).sum(1).clamp(min=1)).sqrt()


def _follows(network: nn.Module, points: Points, hidden: Blind, gradient: Images) -> Mask:
    """Return of which images the margin changes as the gradient says, when the hidden pixels are moved along it."""
    along = torch.where(hidden, gradient.sign(), 0.0)
    follows = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
    if not hidden.any():
        return follows
    for up, down in _moved(points.x, along):
        promised = (gradient * (up - down)).flatten(1).double().sum(1)
        there, back = points.margin(network, up), points.margin(network, down)
        change = (there - back).double()
        told_much = promised > ROUNDING * torch.maximum(there.abs(), back.abs())
        follows |= told_much & (change >= FOLLOWS[0] * promised) & (change <= FOLLOWS[1] * promised)
    return follows


def _moved(x: Images, along: Images) -> Iterator[tuple[Images, Images]]:
    """Yield the images moved both ways, as far as the box lets them."""
    for length in LENGTHS:
        yield (x + length * along).clamp(0, 1), (x - length * along).clamp(0, 1)
