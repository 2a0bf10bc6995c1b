"""Seeds torch's own generators for a while: weight initialisation and dropout draw from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robust_eval.rng import Rng

__all__ = ["seeded"]


@contextmanager
def seeded(device: torch.device, rng: Rng) -> Iterator[None]:
    """Seed the CPU's generator and the device's, make convolutions repeatable; restore both on leaving."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    cudnn = torch.backends.cudnn
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    try:
        cudnn.deterministic, cudnn.benchmark = True, False
        for generator in generators:
            generator.manual_seed(rng.key & 0x7FFFFFFFFFFFFFFF)
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
