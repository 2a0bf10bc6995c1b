"""Encoded images are resized and cropped as the library of the model says, where the experiment says nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from robust_eval.config.frame import Frame, ModelTable
from robust_eval.data import takes_size
from robust_eval.errors import ConfigError
from robust_eval.models.named import from_anywhere
from robust_eval.models.zoo import Preprocessing, entry_of, preprocessing_of

__all__ = ["prepared"]

log = logging.getLogger(__name__)


def prepared(frame: Frame, at: Callable[[str], str], absolute: Callable[[str], str]) -> Frame:
    """Return the frame with size, resize and interpolation of its ``[data]``, and say so.

    ``at`` gives the path of data and ``absolute`` that of a file. Raises ``ConfigError`` where models were made for
    different images.
    """
    data = frame.data
    given = (data.size, data.resize, data.interpolation)
    made_for = [table for table in frame.model if entry_of(table.architecture) is not None]
    if given != (None, None, None) or not made_for or not takes_size(at(data.name)):
        return frame
    found: dict[tuple[object, ...], tuple[ModelTable, Preprocessing]] = {}
    for table in made_for:
        checkpoint = None if table.checkpoint is None else Path(absolute(table.checkpoint))
        said = preprocessing_of(
            from_anywhere(table.architecture, absolute), checkpoint=checkpoint, weights=table.weights
        )
        if said.size is not None:
            found[said.size, said.resize, said.interpolation] = table, said
    if not found:
        return frame
    if len(found) > 1:
        sizes = ", ".join(f"{table.architecture} for {_words(said)}" for table, said in found.values())
        raise ConfigError(
            f"data {data.name}: its models were made for different images ({sizes}); give size in [data] (--size)"
        )
    ((table, said),) = found.values()
    log.warning(
        "data %s: images are made as for %s, %s; --size takes another",
        data.name,
        table.architecture,
        _words(said),
    )
    return replace(
        frame, data=replace(data, size=said.size, resize=said.resize, interpolation=said.interpolation)
    )


def _words(said: Preprocessing) -> str:
    way = said.interpolation or "bilinear"
    if said.resize == "squash":
        return f"{said.size}x{said.size} pixels, both sides resized ({way})"
    if said.resize in (None, said.size):
        return f"{said.size}x{said.size} pixels, resized ({way}) and cropped at the centre"
    return f"{said.size}x{said.size} pixels, cropped at the centre of images of {said.resize} ({way})"
