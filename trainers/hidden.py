"""Runs a network up to one of its layers and on from there, so that what lies between can be changed.

Layers are called by name. Numbers would not do: the repositories of manifold mixup and of PatchUp both write
{0, 1, 2}, and mean the input with the first two residual stages by it, or the input with the stem and the first stage.
Stages of the network are run one after the other and not hooked: a hook added to a compiled network is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from robust_eval.errors import ConfigError
from robust_eval.rng import Rng
from robust_eval.types import Images, Logits

__all__ = ["Change", "Hidden", "Layer", "draw_layer", "layers_of", "require_layers", "through"]

Layer = Literal["input", "stem", "stage1", "stage2", "stage3", "stage4"]
"""The images, what the stem makes of them, or the output of a residual stage."""

Hidden = Literal["stem", "stage1", "stage2", "stage3", "stage4"]
"""A layer other than the images."""

Change = Callable[[Tensor], Tensor]
"""Maps the images or features of a layer, [n,c,h,w], to what the network goes on with."""


def layers_of(model: nn.Module) -> list[Layer]:
    """Return the layers that a network has, in order.

    Raises ``ConfigError`` for one without ``stages``.
    """
    stages: Any = getattr(model, "stages", None)
    if stages is None:
        raise ConfigError(
            f"expected a network in stages (an attribute 'stages': modules that make up its forward), "
            f"got {type(model).__name__}; use an architecture of this package, or give yours one"
        )
    # the last stage is the head
    names: list[Layer] = ["input", "stem", "stage1", "stage2", "stage3", "stage4"]
    return names[: len(list(stages))]


def draw_layer(layers: Sequence[Layer], *, rng: Rng) -> Layer:
    """Draw one of the layers for a batch."""
    return layers[int(rng.child("layer").numpy().integers(len(layers)))]


def require_layers(model: nn.Module, layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers of a network; raises ``ConfigError`` where some of those named are not among them."""
    present = layers_of(model)
    if missing := [layer for layer in layers if layer not in present]:
        bare = getattr(model, "network", model)  # without what is around it
        raise ConfigError(
            f"layers: expected some of {', '.join(present)}, which this {type(bare).__name__} has, "
            f"got {', '.join(missing)}"
        )
    return present


def through(model: nn.Module, x: Images, changes: Mapping[Layer, Change]) -> Logits:
    """Return the logits of images with ``changes`` made at the layers named.

    Raises ``ConfigError`` for a layer that the network does not have.
    """
    present = require_layers(model, changes)
    stages: Any = model.stages
    h: Tensor = x
    for layer, stage in zip(present, stages, strict=True):
        h = stage(changes[layer](h) if layer in changes else h)
    return h
