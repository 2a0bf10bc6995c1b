"""The names that a model has for its classes are compared with those of the images: a number must mean the same."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import nn

from robust_eval.data import Examples
from robust_eval.errors import DataError
from robust_eval.models.checkpoint import read_card

__all__ = ["class_names", "compare_classes"]

log = logging.getLogger(__name__)

LISTS = ("class_names", "classes", "labels")
"""What training scripts call the names in the order of their numbers."""
NUMBERED = ("class_to_idx", "label2id")
NAMED = ("idx_to_class", "id2label")


def class_names(checkpoint: Path | None, network: nn.Module) -> tuple[str, ...] | None:
    """Return the names of the classes by number, ``None`` where neither tells them.

    Looked for on the card beside the weights, beside the weights in the file, and on the network and its ``config``.
    """
    places: list[Mapping[str, Any]] = []
    if checkpoint is not None:
        places += [read_card(checkpoint) or {}, _beside(checkpoint)]
    for thing in (network, getattr(network, "network", None), getattr(network, "config", None)):
        places.append({name: getattr(thing, name, None) for name in (*LISTS, *NUMBERED, *NAMED)})
    found = next((names for place in places if (names := _names(place)) is not None), None)
    # numbers, and the words that stand for them where nobody gave names, are none
    made_up = found is not None and all(name.removeprefix("LABEL_").isdecimal() for name in found)
    return None if made_up else found


def compare_classes(arch: str, outputs: int, names: Sequence[str] | None, examples: Examples) -> None:
    """Say where images have another number of classes than the model, or other names for them.

    Raises ``DataError`` where both have the same names in another order: every number would be wrong.
    """
    theirs = examples.class_names
    if theirs is None:
        return
    if outputs != len(theirs):
        log.warning(
            "%s: has names for %s classes, and %s has %s outputs: are they numbered alike?",
            examples.source, len(theirs), arch, outputs,
        )  # fmt: skip
    if names is None:
        return
    own, found = [list(map(_plain, each)) for each in (names, theirs)]
    if own == found:
        return
    if sorted(own) == sorted(found):
        i = next(i for i, (name, other) in enumerate(zip(own, found, strict=True)) if name != other)
        raise DataError(
            f"{examples.source}: expected classes numbered as those of {arch}, got class {i} {theirs[i]!r}, which is "
            f"{names[i]!r} there; both have the same names in another order: rename them so that the alphabet sorts "
            "them so (00_name, 01_name, ...), or give numbers as labels (a column of a table, a .npz file)"
        )
    common = len(set(own) & set(found))
    if not all(name == other for name, other in zip(own, found, strict=False)):
        log.warning(
            "%s: class 0 is %r, and %r in %s; %s of %s names agree: are they numbered alike?",
            examples.source, theirs[0], names[0], arch, common, len(theirs),
        )  # fmt: skip


def _beside(path: Path) -> Mapping[str, Any]:
    """Return what lies beside the weights in a file of ``torch.save``; nothing of any other, which runs no code."""
    try:
        with path.open("rb") as file:
            if file.read(10)[8:] == b'{"':
                with safetensors.safe_open(path, "pt") as opened:
                    return {"class_names": (opened.metadata() or {}).get("class_names", "").split(",")}
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # what is wrong with it is told when its weights are read
        return {}
    return content if isinstance(content, Mapping) else {}


def _names(place: Mapping[str, Any]) -> tuple[str, ...] | None:
    for key in LISTS:
        found = place.get(key)
        if (
            isinstance(found, list | tuple)
            and len(found) > 1
            and all(isinstance(name, str) for name in found)
        ):
            return tuple(found)
    for key in (*NUMBERED, *NAMED):
        found = place.get(key)
        if not isinstance(found, Mapping):
            continue
        pairs = found.items() if key in NAMED else ((number, name) for name, number in found.items())
        try:
            by_number = {int(number): str(name) for number, name in pairs}
        except (TypeError, ValueError):
            continue
        if len(by_number) > 1 and sorted(by_number) == list(range(len(by_number))):
            return tuple(by_number[number] for number in range(len(by_number)))
    return None


def _plain(name: str) -> str:
    """Return a name without what differs between a folder and a title, such as ``00_`` in front of it."""
    words = re.sub(r"[\W_]+", " ", name.casefold()).strip()
    return re.sub(r"^\d+ (?=\D)", "", words)
