"""What a record keeps to be looked at: pictures of the first images, for no number.

A corruption keeps its first image. Clean images and attacks keep the first six with what the model makes of them, or
as many as fit into 12 kB (24 kB of clean ones, which stand for all attacks), but no fewer than two: at 32 pixels in
colour six under linf 8/255, three or four in l2.
Under a linf radius a difference is magnified so that the radius fills the range; elsewhere the largest change does.
All of this is ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from robust_eval.data import Examples
from robust_eval.evaluation.perturbing import Perturbed
from robust_eval.evaluation.scoring import Scored
from robust_eval.methods import Attack, Corruption
from robust_eval.results.cell import Cell
from robust_eval.results.difference import difference
from robust_eval.results.pictured import MOST, PICTURES
from robust_eval.results.thumbnail import thumbnail
from robust_eval.types import Images, Mask

__all__ = ["shown"]

_LEAST = 2
_BYTES, _CLEAN_BYTES = 12_000, 24_000
_UNCHANGED = 1 / 255
"""Scale of a picture in which nothing is changed."""


def shown(
    cell: Cell, x: Images, clean: Scored, perturbed: Perturbed, scored: Scored, fooled: Mask
) -> dict[str, Any]:
    """Return what provenance keeps of the first images [n,c,h,w] of a cell, before and after its perturbation."""
    if isinstance(cell.perturbation, Corruption):
        return {"sample": thumbnail(perturbed.x[0])}
    first, examples = range(min(MOST, len(x))), cell.data.examples
    labels = {i: {"index": i, "label": _name(examples, int(examples.labels[i]))} for i in first}
    if not isinstance(cell.perturbation, Attack):
        images = ({**labels[i], **_answer(examples, clean, i), "picture": thumbnail(x[i])} for i in first)
        return {"sample": thumbnail(x[0]), PICTURES: _fitting(images, _CLEAN_BYTES)}
    attacked = (
        {
            **labels[i],
            **{f"clean_{name}": value for name, value in _answer(examples, clean, i).items()},
            **_answer(examples, scored, i),
            # by transfer an image is attacked that a defended model may be wrong on already
            "broken": bool(fooled[i]) and int(clean.prediction[i]) == int(examples.labels[i]),
            **_changed(cell.perturbation, x, perturbed, i),
        }
        for i in first
    )
    return {PICTURES: _fitting(attacked, _BYTES)}


def _answer(examples: Examples, scored: Scored, i: int) -> dict[str, Any]:
    """Return what a model takes an image for."""
    confidence = scored.confidence[i].item()
    return {
        "prediction": _name(examples, int(scored.prediction[i])),
        "confidence": round(confidence, 4) if math.isfinite(confidence) else None,
    }


def _changed(attack: Attack, x: Images, perturbed: Perturbed, i: int) -> dict[str, Any]:
    """Return what an attack did to one image: nothing to one that it was not tried on."""
    if not perturbed.attacked[i]:
        return {"attacked": False, "distance": 0.0, "scale": None, "difference": None}
    change = perturbed.x[i] - x[i]
    radius = attack.threat.eps if attack.threat.norm == "linf" else None
    scale = min(1.0, (radius or change.abs().max().item()) or _UNCHANGED)
    distance = attack.threat.distance(x[i : i + 1], perturbed.x[i : i + 1]).item()
    return {
        "attacked": True,
        "distance": distance if math.isfinite(distance) else None,
        "scale": scale,
        "difference": difference(change, scale),
    }


def _name(examples: Examples, k: int) -> str:
    """Return what a class is called: by its name where the set has names, else by its number."""
    names = examples.class_names or ()
    if k < 0:
        return "none"
    return names[k] if k < len(names) else str(k)  # a network may have more outputs than there are classes


def _fitting(found: Iterable[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return the first that fit into ``most`` bytes."""
    kept: list[dict[str, Any]] = []
    left = most
    for item in found:
        left -= len(json.dumps(item))
        if left < 0 and len(kept) >= _LEAST:
            break
        kept.append(item)
    return kept
