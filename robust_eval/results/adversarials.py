"""The adversarials of an attack on disk, so that others can look at them, or run their own model on them.

For a cell of key K, ``examples/K.npz`` holds ``x`` (float32 [n,c,h,w] in [0, 1], all images of the cell, those that
were not attacked as they were) and for each ``index``, ``label``, ``prediction``, ``attacked``, ``success``,
``success_in_bytes`` (whether it still fools when rounded to 8 bits) and ``distance``. ``examples/K/`` has the first of
them as PNG, which are lossless and of 8 bits. ``examples/K.json``, written last, says what they are, with the sha256 of
each file. Nothing in them needs to be unpickled.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robust_eval.errors import DataError
from robust_eval.files import write_together
from robust_eval.identity import file_sha256
from robust_eval.paths import is_file
from robust_eval.types import Images, Mask

__all__ = ["Adversarials", "are_saved", "read_adversarials", "save_adversarials"]

FOLDER = "examples"
PICTURED = 50
"""Images that are also saved as PNG, at most."""
_COLUMNS = ("index", "label", "prediction", "attacked", "distance")


class Adversarials(NamedTuple):
    """What an attack made of the images of a cell."""

    x: Images
    """All images [n,c,h,w] in [0, 1]; those that were not attacked are as they were."""
    rows: pd.DataFrame
    """For each ``index``, ``label``, ``prediction``, ``attacked``, ``success``, ``success_in_bytes``, ``distance``."""


def save_adversarials(
    run: Path, key: str, labels: dict[str, Any], images: Images, rows: pd.DataFrame, still: Mask
) -> None:
    """Write the adversarials of a cell into a run folder; the manifest comes last: where it is, all are there.

    ``rows`` are those of the record, ``still`` says which fool the model when rounded to 8 bits a channel.
    """
    success = rows["attacked"] & (rows["prediction"] != rows["label"])
    columns: dict[str, Any] = {name: rows[name].to_numpy() for name in _COLUMNS}
    arrays = io.BytesIO()
    columns |= {"success": success.to_numpy(dtype=bool), "success_in_bytes": still.numpy()}
    np.savez_compressed(arrays, x=images.float().numpy(), **columns)
    files: dict[str, bytes] = {f"{key}.npz": arrays.getvalue()}
    if images.shape[1] in (1, 3):
        files |= {f"{key}/{i:05d}.png": _png(image) for i, image in enumerate(images[:PICTURED])}
    folder = run / FOLDER
    write_together(folder, files)
    manifest = {
        "schema": 1,
        "key": key,
        "labels": labels,
        "images": len(images),
        "range": "pixels in [0, 1]; PNG are rounded to 8 bits a channel",
        "sha256": {name: file_sha256(folder / name) for name in files},
    }
    write_together(folder, {f"{key}.json": json.dumps(manifest, indent=1, default=str) + "\n"})


def are_saved(run: Path, key: str) -> bool:
    """Whether the adversarials of a cell lie in a run folder."""
    return is_file(run / FOLDER / f"{key}.json")


def read_adversarials(run: Path, key: str) -> Adversarials:
    """Return the adversarials of a cell; raises ``DataError`` where there are none, or others than were written."""
    folder = run / FOLDER
    path = folder / f"{key}.npz"
    if not are_saved(run, key) or not is_file(path):
        raise DataError(
            f"{run}: expected the adversarials of {key[:12]}, got none; measure with --save-examples"
        )
    try:
        told = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))["sha256"][path.name]
        if told != file_sha256(path):
            raise DataError(
                f"{path}: is not what was written; delete {path.with_suffix('.json')} and measure again"
            )
        with np.load(path, allow_pickle=False) as found:
            x = torch.from_numpy(found["x"])
            rows = pd.DataFrame({name: found[name] for name in (*_COLUMNS, "success", "success_in_bytes")})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is damaged ({type(error).__name__}); delete it and measure again") from None
    return Adversarials(x, rows)


def _png(image: Tensor) -> bytes:
    """Return an image [c,h,w] as PNG, rounded to 8 bits a channel."""
    from PIL import Image

    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(file, "PNG")
    return file.getvalue()
