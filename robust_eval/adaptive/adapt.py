"""Make of a model what an attack needs to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from robust_eval.adaptive.expectation import Draws, Expectation, enough_draws, settled
from robust_eval.adaptive.mending import Mending, mend
from robust_eval.adaptive.randomness import GlobalDraws
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, StochasticModule

__all__ = ["FEW", "Adapted", "adapt"]

FEW = 32
"""Images that gradients are looked at on."""
FEWER = 8
"""Images that draws are compared on: each is asked up to a hundred times."""


class Adapted(NamedTuple):
    """A network for attacks, with the decisions of the model in expectation, and how it was made."""

    network: nn.Module
    mending: Mending
    draws: Draws | None
    """``None`` for a deterministic model."""
    decides: nn.Module | None = None
    """The same without remedies, which says whether a point fools the model; ``None`` where there are none."""

    @property
    def remedies(self) -> tuple[str, ...]:
        """What was done to bring its gradients back."""
        return self.mending.remedies


def adapt(
    base: nn.Module,
    x: Images,
    y: Labels,
    *,
    rng: Rng,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    draws: int | None = None,
    batch_size: int = 128,
) -> Adapted:
    """Return what attacks see of ``base`` behind a defense (``wrap``), from images that are classified correctly.

    The base is mended before it is wrapped: a defense averages probabilities, which would hide its logits. A stochastic
    model is averaged over ``draws`` draws, as many as :func:`enough_draws` finds where it is ``None``.
    """
    rng = rng.for_batch(len(x))
    few, fewer = slice(FEW), slice(FEWER)
    # a network that draws by itself is mended inside its draws
    inner = base.network if isinstance(base, GlobalDraws) else base
    mending = mend(inner, x[few], y[few], rng=rng.select(few).child("mend"), batch_size=batch_size)
    network = base
    if mending.network is not inner:
        network = GlobalDraws(mending.network) if isinstance(base, GlobalDraws) else mending.network
    decides = None if network is base else base
    if wrap is not None:
        network, decides = wrap(network), None if decides is None else wrap(decides)
    if not (isinstance(network, StochasticModule) and network.stochastic):
        return Adapted(network, mending, None, decides)
    stream = rng.select(fewer).child("draws")
    if not len(x):
        found = Draws(draws or 1, 1.0)
    elif draws is None:
        found = enough_draws(network, x[fewer], y[fewer], rng=stream, batch_size=batch_size)
    else:
        found = settled(network, x[fewer], y[fewer], draws, rng=stream, batch_size=batch_size)
    if decides is not None:
        assert isinstance(decides, StochasticModule)
        decides = Expectation(decides, found.number)
    return Adapted(Expectation(network, found.number), mending, found, decides)
