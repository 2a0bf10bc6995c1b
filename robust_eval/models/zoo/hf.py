"""``hf:FOLDER``: an image classifier that ``save_pretrained`` of transformers wrote: config, weights, preprocessor.

Nothing is fetched and no code of the folder is run. Its logits are those under ``.logits``. The preprocessor's file
says how images are resized, cropped and normalised; it is read as JSON.
Deviation: images are resized by Pillow, which the fast processors of transformers differ from by rounding.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any, cast

from PIL import Image
from torch import Tensor, nn

from robust_eval.data import Interpolation
from robust_eval.errors import THEIRS, CheckpointError
from robust_eval.identity import file_sha256
from robust_eval.models._content import one_line
from robust_eval.models.zoo._entry import (
    Brought,
    Preprocessing,
    Wanted,
    behind,
    package,
    refuse_arguments,
)
from robust_eval.paths import expanded, is_file, is_folder, misnamed
from robust_eval.types import Images

log = logging.getLogger(__name__)


class _Logits(nn.Module):
    """A classifier of transformers that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Images) -> Tensor:
        logits: Tensor = self.model(pixel_values=x).logits
        return logits


def _preprocessing(wanted: Wanted) -> Preprocessing:
    folder = _folder(wanted)
    path = folder / "preprocessor_config.json"
    if not is_file(path):
        return Preprocessing()
    said = _json(wanted, path)
    mean, std = said.get("image_mean"), said.get("image_std")
    normalises = bool(said.get("do_normalize", True)) and mean is not None and std is not None
    scale = said.get("rescale_factor", 1 / 255) * 255 if said.get("do_rescale", True) else 1.0
    if not math.isclose(scale, 1, rel_tol=1e-3):
        raise CheckpointError(
            f"{path}: expected pixels scaled to [0, 1] (rescale_factor 1/255), got {said.get('rescale_factor')}; "
            "give --arch file.py:factory with a network that scales them"
        )
    crop, resize = _side(said.get("crop_size")), said.get("size")
    crops = bool(said.get("do_center_crop", "crop_size" in said)) and crop is not None
    found = Preprocessing(said_by=f"{path.name} of its folder")
    if normalises:
        found = found._replace(mean=_numbers(mean), std=_numbers(std))
    if said.get("do_resize", True):
        way: Interpolation = "bilinear"
        if isinstance(said.get("resample"), int):
            way = cast("Interpolation", Image.Resampling(said["resample"]).name.lower())
        shortest = resize.get("shortest_edge") if isinstance(resize, dict) else None
        if shortest is not None:
            # a part of the whole before the crop, for classifiers that say so (crop_pct)
            part = said.get("crop_pct") if not crops and shortest < 384 else None
            size = crop if crops else shortest
            found = found._replace(size=size, resize=int(shortest / part) if part else shortest)
            if not crops and part is None and "crop_pct" in said:
                found = found._replace(resize="squash")
        elif (side := _side(resize)) is not None:
            found = found._replace(size=crop if crops else side, resize="squash")
            if crops and crop != side:
                log.warning("%s: resizes both sides to %s first; here the shorter one", wanted.spec, side)
                found = found._replace(resize=side)
        found = found._replace(interpolation=way)
    return found


@behind(
    "hf",
    about="FOLDER (a saved image classifier of transformers; extra hf)",
    path=True,
    preprocessing=_preprocessing,
)
def _bring(wanted: Wanted) -> Brought:
    refuse_arguments(wanted)
    folder = _folder(wanted)
    made_for = _preprocessing(wanted)
    said = _json(wanted, folder / "config.json")
    transformers = package("transformers", extra="hf", spec=wanted.spec)
    if said.get("auto_map"):
        raise CheckpointError(
            f"{wanted.spec}: its config asks for code of its own (auto_map), which is not run; give its network by "
            "--arch file.py:factory"
        )
    try:
        with _quiet(transformers):
            model, info = transformers.AutoModelForImageClassification.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
    except THEIRS as error:
        raise CheckpointError(
            f"{wanted.spec}: expected a saved image classifier, got one that cannot be loaded ({one_line(error)})"
        ) from None
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{wanted.spec}: {len(missing)} weights are missing ({', '.join(missing[:3])}), which would be drawn; save "
            "the fine-tuned classifier, head and all"
        )
    return Brought(
        _Logits(model), {"hf": file_sha256(folder / "config.json")}, made_for, _class_names(model.config)
    )


def _folder(wanted: Wanted) -> Path:
    if (problem := misnamed(wanted.name)) is not None:
        raise CheckpointError(f"{wanted.spec}: {problem}")
    folder = expanded(wanted.name)
    if not is_folder(folder):
        raise CheckpointError(
            f"{wanted.spec}: expected a folder of save_pretrained, got none; nothing is fetched"
        )
    if not is_file(folder / "config.json"):
        raise CheckpointError(
            f"{wanted.spec}: expected config.json in the folder, got none; save the model with save_pretrained"
        )
    return folder


def _json(wanted: Wanted, path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{wanted.spec}: {path.name} is no JSON ({one_line(error)})") from None
    if not isinstance(said, dict):
        raise CheckpointError(
            f"{wanted.spec}: {path.name}: expected a JSON object, got {type(said).__name__}"
        )
    return said


def _side(size: Any) -> int | None:
    """Return the side of a square size, however the file writes it."""
    if isinstance(size, int):
        return size
    if isinstance(size, dict) and size.get("height") == size.get("width"):
        return size.get("height")
    return None


def _numbers(given: Any) -> tuple[float, ...]:
    """Return one number for each of three channels; a file may hold one for all."""
    return tuple(float(number) for number in (given if isinstance(given, list) else [given] * 3))


def _class_names(config: Any) -> tuple[str, ...] | None:
    """Return the names of the classes by number; ``None`` where they only number them."""
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


class _quiet:
    """Keeps transformers from writing of its progress while a model is loaded."""

    def __init__(self, transformers: Any) -> None:
        self.log = transformers.utils.logging

    def __enter__(self) -> None:
        self.level, self.bar = self.log.get_verbosity(), self.log.is_progress_bar_enabled()
        self.log.set_verbosity_error()
        self.log.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        self.log.set_verbosity(self.level)
        if self.bar:
            self.log.enable_progress_bar()
