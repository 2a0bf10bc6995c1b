"""``timm:NAME``: a network of PyTorch Image Models, with the preprocessing of its configuration.

Classes, channels and, of a transformer, the side of its images are those of the checkpoint, unless the arguments say
otherwise (``timm:resnet18(num_classes=10)``). Images are resized to ``floor(size / crop_pct)`` and cropped at the
centre, as timm does by default for a test.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from robust_eval.errors import ConfigError, near
from robust_eval.models._names import Beside
from robust_eval.models.checkpoint import read_state, state_sha256
from robust_eval.models.filling import fill, named_like
from robust_eval.models.zoo._entry import Brought, Preprocessing, Wanted, behind, package
from robust_eval.models.zoo._weights import require_weights

log = logging.getLogger(__name__)


def _preprocessing(wanted: Wanted) -> Preprocessing:
    timm, settings = _settings(wanted)
    state: Mapping[str, Tensor] = {}
    if settings.fixed_input_size and wanted.checkpoint is not None and "img_size" not in wanted.arguments:
        state, _ = _named(timm, wanted, wanted.checkpoint)
    return _made_for(settings, wanted.arguments.get("img_size") or _side(state))


@behind(
    "timm", about="NAME (a network of timm, with its preprocessing; extra zoo)", preprocessing=_preprocessing
)
def _bring(wanted: Wanted) -> Brought:
    timm, settings = _settings(wanted)
    require_weights(wanted)
    fields, beside = dict(wanted.arguments), None
    if wanted.checkpoint is None:
        network = timm.create_model(wanted.name, pretrained=True, **fields)
    else:
        state, beside = _named(timm, wanted, wanted.checkpoint)
        for field, value in _shape(settings, state).items():
            fields.setdefault(field, value)
        network = timm.create_model(wanted.name, **fields)
        fill(network, state, wanted.checkpoint)
    described = {"name": wanted.spec, "params": {name: repr(value) for name, value in sorted(fields.items())}}
    return Brought(
        network,
        described,
        _made_for(settings, fields.get("img_size")).beside(beside),
        weights_sha256=None if wanted.checkpoint is not None else state_sha256(network),
    )


def _named(timm: Any, wanted: Wanted, checkpoint: Path) -> tuple[dict[str, Tensor], Beside | None]:
    """Return the weights in the checkpoint by the names of the network, and a normalisation beside them."""
    state = read_state(checkpoint, wanted.weights)
    return named_like(state, lambda: timm.create_model(wanted.name, **wanted.arguments), checkpoint)


def _settings(wanted: Wanted) -> tuple[Any, Any]:
    timm = package("timm", extra="zoo", spec=wanted.spec)
    if not timm.is_model(wanted.name):
        family = wanted.name.partition(".")[0]
        raise ConfigError(
            f"{wanted.spec}: timm {timm.__version__} has no such network{near(family, timm.list_models())}"
        )
    try:
        return timm, timm.get_pretrained_cfg(wanted.name)
    except RuntimeError:
        tags = timm.list_pretrained(f"{wanted.name.partition('.')[0]}.*")
        raise ConfigError(
            f"{wanted.spec}: timm has no weights of this tag{near(wanted.name, tags)}; leave it out"
        ) from None


def _shape(settings: Any, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments that the shapes of the weights decide."""
    found: dict[str, int] = {}
    names = settings.classifier if isinstance(settings.classifier, tuple) else (settings.classifier,)
    heads = [state.get(f"{name}.weight", state.get(f"{name}.bias")) for name in names]
    if heads and heads[0] is not None:
        found["num_classes"] = len(heads[0])
    first = settings.first_conv[0] if isinstance(settings.first_conv, tuple) else settings.first_conv
    stem = state.get(f"{first}.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[1] != settings.input_size[0]:
        found["in_chans"] = stem.shape[1]
    side = _side(state)
    if side is not None and side != settings.input_size[-1]:
        found["img_size"] = side
    return found


def _side(state: Mapping[str, Tensor]) -> int | None:
    """Return the side of the images that a vision transformer's positions are for; ``None`` without such."""
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or positions.ndim != 3 or patches is None or patches.ndim != 4:
        return None
    others = sum(
        state[name].shape[1] for name in ("cls_token", "dist_token", "reg_token") if name in state
    )  # tokens that stand for no patch, which may have no position
    for count in (positions.shape[1] - others, positions.shape[1]):
        if count > 0 and math.isqrt(count) ** 2 == count:
            return int(math.isqrt(count) * patches.shape[-1])
    return None


def _made_for(settings: Any, side: int | None) -> Preprocessing:
    size = side or settings.input_size[-1]
    resize: int | Literal["squash"] = math.floor(size / settings.crop_pct)
    if settings.crop_mode == "squash" and settings.crop_pct == 1:
        resize = "squash"
    elif settings.crop_mode != "center":
        log.warning("timm: its images are cropped otherwise (%s), here at the centre", settings.crop_mode)
    return Preprocessing(
        tuple(settings.mean),
        tuple(settings.std),
        "timm's configuration",
        size,
        resize,
        settings.interpolation,
    )
