"""What a model of the user's does with a few images: whether it answers them, and whether it draws on the way."""

from __future__ import annotations

import torch
from torch import nn

from robust_eval.adaptive.randomness import draws_by_itself
from robust_eval.classifier import frozen
from robust_eval.data import Examples
from robust_eval.errors import THEIRS, CheckpointError, ConfigError, DataError
from robust_eval.models.reading import described
from robust_eval.rng import Rng
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import StochasticModule

__all__ = ["PROBES", "draws_by_nature", "tried_on"]

PROBES = 16
"""Images on which a model is watched for randomness of its own."""


def draws_by_nature(network: nn.Module, examples: Examples) -> bool:
    """Whether the network draws random numbers of its own; what it cannot answer is told by the cells it fails in."""
    with surroundings_kept(), frozen(network):
        try:
            return draws_by_itself(network, examples[slice(PROBES)].pixels())
        except THEIRS:
            return draws_by_itself(network, examples[slice(2)].pixels())


def _other_dtype(network: nn.Module, examples: Examples) -> torch.dtype | None:
    """Return the dtype in which a network that cannot take float32 images takes them; ``None`` where there is none."""
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        try:
            with surroundings_kept(), frozen(network), torch.no_grad():
                network(examples[slice(2)].pixels().to(dtype))
        except THEIRS:
            continue
        return dtype
    return None


def tried_on(network: nn.Module, examples: Examples, arch: str) -> int:
    """Return how many outputs the network has; raise unless it maps two of the images to logits that the labels fit."""
    shape = "x".join(map(str, examples.shape))
    tensors = [t for t in (*network.parameters(), *network.buffers()) if not torch.nn.parameter.is_lazy(t)]
    if any(tensor.is_inference() for tensor in tensors):
        raise CheckpointError(
            f"model {arch}: expected weights that autograd can use, got some made under torch.inference_mode; "
            "make or load them outside of it"
        )
    try:
        with surroundings_kept(), frozen(network), torch.no_grad():
            few = examples[slice(2)].pixels()
            if isinstance(network, StochasticModule):
                network.redraw(Rng(0).for_batch(len(few)))
            output = network(few.clone())  # which may write into what it is given
    except ConfigError:
        raise
    except THEIRS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        wanted = _other_dtype(network, examples)
        fix = (
            "give images it was made for, or the checkpoint for these"
            if wanted is None
            else f"it takes {wanted}: let its forward begin with x = x.to({wanted})"
        )
        raise CheckpointError(f"model {arch}: cannot take images of {shape} ({reason}); {fix}") from None
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or len(output) != len(examples[slice(2)]):
        got = list(output.shape) if isinstance(output, torch.Tensor) else described(output)
        raise CheckpointError(f"model {arch}: expected logits [n,classes] for images [n,{shape}], got {got}")
    if not output.is_floating_point():
        raise CheckpointError(
            f"model {arch}: expected logits of a floating-point type, got {output.dtype}; return them before the argmax"
        )
    highest = int(examples.labels.max())
    if highest >= output.shape[1]:
        raise DataError(
            f"{examples.source}: expected labels in 0..{output.shape[1] - 1}, the outputs of {arch}, "
            f"got label {highest}; give the model's own data, or the checkpoint for these classes"
        )
    return int(output.shape[1])
