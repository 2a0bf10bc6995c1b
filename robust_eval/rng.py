"""Randomness as an argument: named streams in which a row's draw depends on (seed, name, row) and nothing else.

An :class:`Rng` holds no state. ``rng.child("restart", 2)`` names a new stream; ``rng.rows(index)`` says which
example each row of a batch is. A draw for a row is then a pure function of the seed, the name and that
example's id: never of the batch it sits in, its place there, or which others are still in the game.

The bits are SplitMix64 (Steele, Lea and Flood 2014, figure 17) computed for all rows at once in wrapping
64-bit integers, so CPU and GPU give the same ones. Asking the same stream twice gives the same numbers: one
stream, one draw.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from robust_eval.errors import ConfigError

if TYPE_CHECKING:
    Seed = int
else:  # what is none is told in words of ours, not of whoever checks types at run time
    Seed = Any

__all__ = ["Rng", "rewound", "seeded"]


def _signed(value: int) -> int:
    """The same 64 bits as a signed integer, as torch wants them."""
    return value - (1 << 64) if value >= 1 << 63 else value


GOLDEN = _signed(0x9E3779B97F4A7C15)
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)
LOW_33, LOW_34, LOW_37 = ((1 << bits) - 1 for bits in (33, 34, 37))


@dataclass(frozen=True, eq=False)
class Rng:
    """A named stream of random numbers, one row per example."""

    seed: Seed
    path: tuple[str | int, ...] = ()
    index: Int[Tensor, " n"] | None = field(default=None, repr=False)
    """Example id of each row; ``None`` until :meth:`rows` or :meth:`for_batch` sets it."""
    known_by: Int[Tensor, " n"] | None = field(default=None, repr=False)
    """What the draws of each row depend on; ``None`` where that is its id."""

    def __post_init__(self) -> None:
        if (
            type(self.seed) is not int
        ):  # another type of the same number is written, and so draws, differently
            object.__setattr__(self, "seed", _seed(self.seed))

    def child(self, *name: str | int) -> Rng:
        """Return the stream of this name below this one, for the same rows."""
        return Rng(self.seed, (*self.path, *name), self.index, self.known_by)

    def rows(self, index: Int[Tensor, " n"]) -> Rng:
        """Return this stream for the examples with these ids."""
        return Rng(self.seed, self.path, index)

    def for_batch(self, n: int) -> Rng:
        """Return a stream of ``n`` rows: this one if it has rows already, else rows 0..n-1.

        Raises ``ValueError`` when the rows it has are not ``n``.
        """
        if self.index is None:
            return self.rows(torch.arange(n))
        if len(self.index) != n:
            raise ValueError(f"expected a stream of {n} rows, one per image, got {len(self.index)}")
        return self

    def for_images(self, x: Float[Tensor, "n *shape"]) -> Rng:
        """Return a stream of one row for each image, like :meth:`for_batch`, whose draws go by the pixels.

        So an image has the same draws in whatever batch and place it is; several of the same pixels draw each for
        itself. A stream that has rows is left as it is: its ids say which image is which.
        """
        if self.index is not None:
            return self.for_batch(len(x))
        pixels = x.detach().cpu().float().numpy()
        seen, known_by = Counter[bytes](), []
        for image in pixels:
            digest = hashlib.blake2b(image.tobytes(), digest_size=8).digest()
            again = hashlib.blake2b(digest, digest_size=8, salt=seen[digest].to_bytes(8, "little"))
            known_by.append(int.from_bytes(again.digest(), "little", signed=True))
            seen[digest] += 1
        return Rng(self.seed, self.path, torch.arange(len(x)), torch.tensor(known_by, dtype=torch.int64))

    def select(self, which: Tensor | slice) -> Rng:
        """Return this stream for a subset of its rows: a mask, positions or a slice."""
        which = which.to(self._rows.device) if isinstance(which, Tensor) else which
        known_by = None if self.known_by is None else self.known_by[which]
        return Rng(self.seed, self.path, self._rows[which], known_by)

    @property
    def key(self) -> int:
        """The stream's 64-bit name."""
        text = repr((self.seed, *self.path)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")

    @property
    def _rows(self) -> Int[Tensor, " n"]:
        if self.index is None:
            raise ValueError("this stream has no rows yet: call rng.rows(ids) or rng.for_batch(n) first")
        return self.index

    def uniform(self, *shape: int, device: torch.device | None = None) -> Float[Tensor, "n *shape"]:
        """Draw from [0, 1): one array of ``shape`` for each row."""
        bits = self._bits(math.prod(shape), device)
        return _unit(bits >> 40).view(len(bits), *shape)

    def normal(self, *shape: int, device: torch.device | None = None) -> Float[Tensor, "n *shape"]:
        """Draw from N(0, 1) by Box and Muller's transform: one array of ``shape`` for each row."""
        count = math.prod(shape)
        bits = self._bits((count + 1) // 2, device)
        # 1 - u lies in (0, 1], so that the logarithm is finite
        radius = (-2 * (1 - _unit(bits >> 40)).log()).sqrt()
        angle = _unit(bits >> 8) * (2 * math.pi)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return both[:, :count].reshape(len(bits), *shape)

    def integers(self, high: int, *shape: int, device: torch.device | None = None) -> Int[Tensor, "n *shape"]:
        """Draw from 0..high-1: one array of ``shape`` for each row."""
        # 63 bits modulo high: the bias is below high / 2^63
        bits = self._bits(math.prod(shape), device) & 0x7FFFFFFFFFFFFFFF
        return (bits % high).view(len(bits), *shape)

    def numpy(self) -> np.random.Generator:
        """Return a numpy generator for draws that belong to a whole batch, such as one mixing coefficient."""
        return np.random.default_rng(self.key)

    def torch_generator(self, device: torch.device | None = None) -> torch.Generator:
        """Return a torch generator, on the CPU by default, for draws that belong to a whole batch, such as a mask."""
        return torch.Generator(device or "cpu").manual_seed(self.key & 0x7FFFFFFFFFFFFFFF)

    def _bits(self, count: int, device: torch.device | None) -> Int[Tensor, "n count"]:
        known_by = self._rows if self.known_by is None else self.known_by
        rows = known_by.to(device=device, dtype=torch.int64)
        start = _mix(rows * GOLDEN + _signed(self.key))
        step = torch.arange(1, count + 1, device=rows.device) * GOLDEN
        return _mix(start[:, None] + step)


@contextmanager
def seeded(rng: Rng, *, everywhere: bool = False) -> Iterator[None]:
    """Run what draws from torch's global generators with those seeded, and put them back afterwards.

    ``everywhere`` does the same to numpy's and Python's.
    """
    with rewound(everywhere=everywhere):
        torch.manual_seed(rng.key & 0x7FFFFFFFFFFFFFFF)
        if everywhere:
            random.seed(rng.key)
            np.random.seed(rng.key & 0xFFFFFFFF)  # noqa: NPY002 - whatever is run may draw from it
        yield


@contextmanager
def rewound(*, everywhere: bool = False) -> Iterator[None]:
    """Put torch's global generators back afterwards: what is drawn in here is drawn again by what comes next.

    ``everywhere`` does the same to numpy's and Python's.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    others = (random.getstate(), np.random.get_state()) if everywhere else None  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        if others is not None:
            random.setstate(others[0])
            np.random.set_state(others[1])  # noqa: NPY002


def _seed(given: object) -> int:
    if isinstance(given, np.integer) or (isinstance(given, int) and not isinstance(given, bool)):
        return int(given)
    if isinstance(given, np.random.Generator | np.random.RandomState | torch.Generator):
        got = f"a {type(given).__name__} of {type(given).__module__.partition('.')[0]}, which draws anew at each call"
    else:
        got = repr(given) if given is None or isinstance(given, bool | float | str) else type(given).__name__
    raise ConfigError(f"rng: expected Rng(0), or another whole number as the seed, got {got}")


def _mix(z: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64's finalizer; torch's right shift keeps the sign, which the masks take away."""
    z = (z ^ (z >> 30 & LOW_34)).mul_(MIX_1)
    z = z.bitwise_xor_(z >> 27 & LOW_37).mul_(MIX_2)
    return z.bitwise_xor_(z >> 31 & LOW_33)


def _unit(bits: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map the low 24 bits to [0, 1), exactly representable in float32."""
    return (bits & 0xFFFFFF).float() * (1.0 / (1 << 24))
