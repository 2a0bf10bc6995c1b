"""One pass through a network, forward or backward, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robust_eval.classifier.outputs import expect_logits
from robust_eval.errors import NoGradientError
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import Images

__all__ = ["CUT_OFF", "TOGETHER", "answer", "columns", "connected", "out_of_memory", "single_use"]

CUT_OFF = (
    "expected a model that autograd can differentiate, got one whose output is cut off from its input; look for "
    "detach(), no_grad, inference_mode or numpy in its forward, for a leaf made there and for quantised layers, or use "
    "an attack that needs no gradient (square)"
)


@contextmanager
def connected() -> Iterator[None]:
    """Raise ``NoGradientError`` where a gradient is asked for that autograd has none of."""
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error) for words in NO_GRADIENT):
            raise NoGradientError(CUT_OFF) from error
        raise


NO_GRADIENT = (
    "call numpy() on Tensor that requires grad",
    "appears to not have been used in the graph",
    "does not require grad and does not have a grad_fn",
    "the derivative for",
    "derivative is not implemented",
)
"""How torch says so, in a forward pass and in a backward one."""


def answer(network: nn.Module, x: Images) -> Tensor:
    """Return the logits as a tensor that autograd can go on from; raise where numpy wants none of it."""
    with surroundings_kept(), connected() if x.requires_grad else nullcontext():
        logits: Tensor = network(x)
    if not isinstance(logits, Tensor):
        expect_logits(logits, len(x))
    return logits.clone() if logits.is_inference() and not torch.is_inference_mode_enabled() else logits


TOGETHER = 4
"""Up to this many examples, the gradients of several columns are cheaper in one batched backward pass.

ResNet-18, 10 columns, bfloat16, 2 CPU cores: 37 against 30 examples a second with 4 of them, 49 against 54 with 20; in
float32 it never was (10 against 20 with 4).
"""


def columns(picked: Float[Tensor, "n m"], leaf: Images, *, together: bool) -> Iterator[Images]:
    """Return the gradient of each column of ``picked``: one backward pass each, or one of them all ``together``."""
    n, m = picked.shape
    if together and n and m > 1:
        every = torch.eye(m, device=picked.device, dtype=picked.dtype)[:, None].expand(m, n, m)
        with connected():
            yield from torch.autograd.grad(picked, leaf, every, is_grads_batched=True)[0]
        return
    for i, column in enumerate(picked.sum(0)):
        with connected():
            (gradient,) = torch.autograd.grad(column, leaf, retain_graph=i + 1 < m)
        yield gradient


def single_use(error: RuntimeError) -> bool:
    """Whether a compiled network has given away what a second backward pass, or a batch of them, would need."""
    return any(words in str(error) for words in ("donated buffers", "vmap", "functorch", "batched"))


def out_of_memory(error: BaseException) -> bool:
    """A GPU has an error of its own for it; the CPU's allocator has only its words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
