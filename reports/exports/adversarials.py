"""Adversarial images as a file, such as an external evaluation hands in to RobustBench."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reports.exports.runs import Folders
from robust_eval.errors import DataError
from robust_eval.files import atomic_path
from robust_eval.results.adversarials import Adversarials, are_saved, read_adversarials
from robust_eval.results.entry import Entry

__all__ = ["handed_in", "save_adversarials"]

LARGEST = 1 << 29
"""Bytes of images that a report holds at once: CIFAR's test sets are a quarter of it."""


def save_adversarials(path: Path, x_adv: Tensor, *, of: Tensor | None = None) -> Path:
    """Write adversarial images [n,c,h,w] in [0, 1] without loss, as a tensor that ``torch.load`` reads with
    ``weights_only=True``. ``of`` are the clean ones, whose number and shape they must have.

    Raises ``DataError`` for anything else: what is written is not measured again.
    """
    if x_adv.ndim != 4 or not x_adv.is_floating_point() or not len(x_adv):
        raise DataError(
            f"adversarials: expected floats [n,c,h,w], got {x_adv.dtype} of shape {list(x_adv.shape)}; give the images "
            "that an attack handed back"
        )
    if of is not None and of.shape != x_adv.shape:
        raise DataError(
            f"adversarials: expected the shape of the clean images, {list(of.shape)}, got {list(x_adv.shape)}; an "
            "image that was not attacked stays in its place as it is"
        )
    low, high = float(x_adv.min()), float(x_adv.max())
    if not (0 <= low <= high <= 1):  # which NaN is not either
        raise DataError(
            f"adversarials: expected pixels in [0, 1], got {low:g} to {high:g}; leave normalisation in the model"
        )
    with atomic_path(path) as temporary:
        torch.save(x_adv.detach().cpu().clone(memory_format=torch.contiguous_format), temporary)
    return path


def handed_in(attacks: Sequence[Entry], folders: Folders) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the adversarials that the runs kept of attacks on one model at one radius, as a ``.pt`` file, and why not.

    Image by image that of the first attack that fooled the model: the worst case as images. ``None`` where none were
    kept. One that cannot be read, or is of other images, is left out and told.
    """
    found: Adversarials | None = None
    told = []
    for entry in attacks:
        key = entry.record.key
        run = folders.run_of(key)
        if run is None or not are_saved(run.folder, key):
            continue
        try:
            other = read_adversarials(run.folder, key)
        except DataError as error:
            told.append(str(error))
            continue
        if other.x.numel() * 4 > LARGEST:
            told.append(
                f"{run.folder}: the adversarials of {key[:12]} are {other.x.numel() * 4:,} bytes, more than a report "
                "holds; write them with save_adversarials of reports.exports.adversarials"
            )
        elif found is None:
            found = other
        elif other.x.shape != found.x.shape or list(other.rows["index"]) != list(found.rows["index"]):
            told.append(
                f"{run.folder}: the adversarials of {key[:12]} are of other images than those before them"
            )
        else:
            found = _worse(found, other)
    if found is None:
        return None, tuple(told)
    file = io.BytesIO()
    torch.save(found.x.clone(memory_format=torch.contiguous_format), file)
    return file.getvalue(), tuple(told)


def _worse(one: Adversarials, other: Adversarials) -> Adversarials:
    """Take the other's image where it alone fools the model."""
    success = one.rows["success"].to_numpy(bool)
    taken = other.rows["success"].to_numpy(bool) & ~success
    x = torch.where(torch.from_numpy(taken)[:, None, None, None], other.x, one.x)
    return Adversarials(x, one.rows.assign(success=np.logical_or(success, taken)))
