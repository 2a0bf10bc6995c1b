"""``torchvision:NAME``: a classifier of torchvision, with the preprocessing of its published weights.

The number of classes and, of a vision transformer, the side of its images are those of the checkpoint, unless the
arguments say otherwise (``torchvision:resnet18(num_classes=10)``). Of several published weights with preprocessings of
their own, those that the checkpoint is named after count, else the first; ``weights='IMAGENET1K_V2'`` among the
arguments names others.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from torch import Tensor

from robust_eval.errors import ConfigError, near
from robust_eval.models._names import Beside
from robust_eval.models.checkpoint import read_state, state_sha256
from robust_eval.models.filling import fill, named_like
from robust_eval.models.zoo._entry import Brought, Preprocessing, Wanted, behind
from robust_eval.models.zoo._weights import require_weights


def _models() -> Any:
    from torchvision import models  # slow to import: it loads torch's compiler

    return models


def _preprocessing(wanted: Wanted) -> Preprocessing:
    published = _published(wanted)
    state: Mapping[str, Tensor] = {}
    if "image_size" in _parameters(wanted) and wanted.checkpoint is not None:
        state, _ = _named(wanted, wanted.checkpoint)
    return _made_for(published, wanted.arguments.get("image_size") or _side(state))


@behind(
    "torchvision",
    about="NAME (a classifier of torchvision, with its preprocessing)",
    preprocessing=_preprocessing,
)
def _bring(wanted: Wanted) -> Brought:
    published = _published(wanted)
    require_weights(wanted)
    fields = {name: value for name, value in wanted.arguments.items() if name != "weights"}
    sha256, beside = None, None
    if wanted.checkpoint is None:
        network = _models().get_model(wanted.name, weights=published, **fields)
        sha256 = state_sha256(network)
    else:
        state, beside = _named(wanted, wanted.checkpoint)
        for field, value in _shape(wanted, published, state).items():
            fields.setdefault(field, value)
        network = _models().get_model(wanted.name, weights=None, **fields)
        fill(network, state, wanted.checkpoint)
    described = {"name": wanted.spec, "params": {name: repr(value) for name, value in sorted(fields.items())}}
    names = published.meta["categories"] if wanted.checkpoint is None else None
    made_for = _made_for(published, fields.get("image_size")).beside(beside)
    return Brought(network, described, made_for, names and tuple(names), sha256)


def _named(wanted: Wanted, checkpoint: Path) -> tuple[dict[str, Tensor], Beside | None]:
    """Return the weights in the checkpoint by the names of the network, and a normalisation beside them."""
    fields = {"init_weights": False} if "aux_logits" in _parameters(wanted) else {}
    return named_like(
        read_state(checkpoint, wanted.weights),
        lambda: _models().get_model(wanted.name, weights=None, **fields),
        checkpoint,
    )


def _published(wanted: Wanted) -> Any:
    """Return the published weights whose preprocessing counts."""
    models = _models()
    names = models.list_models(module=models)
    if wanted.name not in names:
        raise ConfigError(
            f"{wanted.spec}: torchvision {version('torchvision')} has no such classifier{near(wanted.name, names)}"
        )
    every = list(_models().get_model_weights(wanted.name))
    if (given := wanted.arguments.get("weights")) is not None:
        found = next((one for one in every if one.name == given), None)
        if found is None:
            known = [one.name for one in every]
            raise ConfigError(f"{wanted.spec}: weights: expected one of {', '.join(known)}, got {given!r}")
        return found
    if wanted.checkpoint is not None:
        for one in every:
            if PurePosixPath(one.url).name == wanted.checkpoint.name:
                return one
    return every[0] if wanted.checkpoint is not None else type(every[0]).DEFAULT


def _parameters(wanted: Wanted) -> Mapping[str, Any]:
    """Return what the network's own class can be told, as far as a signature says."""
    builder = inspect.unwrap(_models().get_model_builder(wanted.name))
    own = dict(inspect.signature(builder).parameters)
    if wanted.name.startswith("vit"):  # named by its class alone
        own |= inspect.signature(_models().VisionTransformer).parameters
    return own


def _shape(wanted: Wanted, published: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments that the weights decide."""
    found: dict[str, Any] = {}
    parameters = _parameters(wanted)
    # both draw their first weights slowly and warn of it; what is not in the file is no part of an answer
    if "aux_logits" in parameters:
        found |= {"init_weights": False}
        found |= {"aux_logits": any(name.lower().startswith("aux") for name in state)}
        if wanted.checkpoint is not None and PurePosixPath(published.url).name == wanted.checkpoint.name:
            found |= {"transform_input": True}
    with torch.device("meta"):
        made = _models().get_model(wanted.name, weights=None, **found)
    heads = [name for name, weight in made.state_dict().items() if weight.ndim and len(weight) == 1000]
    own = [state[name] for name in heads if name in state and state[name].ndim]
    if own:
        found["num_classes"] = len(own[-1])
    if "image_size" in parameters and (side := _side(state)) is not None:
        found["image_size"] = side
    return found


def _side(state: Mapping[str, Tensor]) -> int | None:
    """Return the side of the images that a vision transformer's positions are for; ``None`` without such."""
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return None
    return int(math.isqrt(positions.shape[1] - 1) * patches.shape[-1])


def _made_for(published: Any, side: int | None) -> Preprocessing:
    made = published.transforms()
    size, resize = made.crop_size[0], made.resize_size[0]
    if side is not None and side != size:
        size, resize = side, math.floor(side * resize / size)
    interpolation: Literal["bilinear", "bicubic"] = made.interpolation.value
    said_by = f"torchvision's {type(published).__name__}.{published.name}"
    return Preprocessing(tuple(made.mean), tuple(made.std), said_by, size, resize, interpolation)
