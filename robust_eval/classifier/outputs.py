"""What a network answers to a batch: logits, gradients, or what is none, and where they miss the label."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from robust_eval.errors import ConfigError
from robust_eval.types import Images, Labels, Logits, Mask

__all__ = ["Gradient", "expect_logits", "misclassified"]


class Gradient(NamedTuple):
    """The logits at a batch and the gradient of each example's loss with respect to its pixels.

    Entries that are not finite are zero here: one of them would spoil the point for good. The ledger counts them.
    """

    logits: Logits
    gradient: Images


def expect_logits(logits: object, n: int) -> None:
    """Raise ``ConfigError`` for what is no logits [n,classes]."""
    if isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == n and logits.is_floating_point():
        return
    if isinstance(logits, Tensor):
        shape = ",".join(map(str, logits.shape))
        got, fix = f"{str(logits.dtype).removeprefix('torch.')} [{shape}]", ""
    else:
        got, fix = type(logits).__name__, "; have its forward return the tensor of logits alone"
        if hasattr(logits, "logits"):
            fix = "; have its forward return .logits of it"
    raise ConfigError(f"model: expected logits [n,classes] of {n} images, got {got}{fix}")


def misclassified(logits: Logits, y: Labels) -> Mask:
    """Return where the label is not predicted; an output with NaN or infinity on top predicts nothing."""
    return (logits.argmax(1) != y) | ~logits.amax(1).isfinite()
