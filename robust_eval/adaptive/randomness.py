"""A model that draws random numbers of its own, made into one whose draws are set from outside.

Such a model has not said that it is stochastic, so an attack would take a lucky draw for a success. Wrapped, it is
attacked in expectation and scored over several draws, like a randomised defense.

The generators it can draw from are torch's, numpy's and Python's global ones: they are seeded for each call and put
back afterwards. One call draws for a whole batch, so an image's draw depends on the batch it is in. A generator of the
model's own is noticed by answers that differ, but cannot be seeded: its numbers are not the same the next time.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_eval.rng import Rng, seeded
from robust_eval.types import Images, Logits, StochasticModule

__all__ = ["GlobalDraws", "draws_by_itself"]


AGAIN = 3
"""How often a model that moves no generator is asked again."""


class GlobalDraws(StochasticModule):
    """A network whose draws from the global generators are set by ``redraw``; each call of the same draws gives the
    same output.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._rng: Rng | None = None

    def redraw(self, rng: Rng) -> None:
        """Fix the draws of the next forward passes."""
        # a batch is asked in parts, which must not share their draws
        self._rng = rng if rng.index is None or not len(rng.index) else rng.child(int(rng.index[0]))

    def forward(self, x: Images) -> Logits:
        """Return the network's logits [n,k] for these draws."""
        if self._rng is None:
            raise ValueError("this network is stochastic: call redraw(rng) before the forward pass")
        with seeded(self._rng, everywhere=True):
            logits: Logits = self.network(x)
        return logits


def draws_by_itself(network: nn.Module, x: Images) -> bool:
    """Whether a forward pass of the network, in eval mode, moves a global generator or answers differently the second
    time.
    """
    with torch.no_grad(), seeded(Rng(0), everywhere=True):
        before = _states(x.device)
        first = network(x.clone())  # which may write into what it is given
        if any(not _same(a, b) for a, b in zip(before, _states(x.device), strict=True)):
            return True
        others = [network(x.clone()) for _ in range(AGAIN)]
    if not isinstance(first, torch.Tensor):
        return False
    change = torch.stack([(first - other).double().nan_to_num().abs().amax() for other in others]).amax()
    # rounding of a nondeterministic kernel is no draw
    return bool(change > 1e-4 * first.double().nan_to_num().abs().amax().clamp(min=1e-12))


def _states(device: torch.device) -> list[object]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    # as bytes, since a comparison by words would leave most of an array out
    states: list[object] = [
        torch.random.get_rng_state(),
        random.getstate(),
        numpy_state[1].tobytes(),
        numpy_state[2],
    ]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return a == b
