"""Whether a model of the user's still answers as it did when its records were made; where not, it is another model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robust_eval.files import alone, write_text
from robust_eval.identity import content_key
from robust_eval.models.answers import same_answers
from robust_eval.models.source import OwnModel
from robust_eval.results.cell import Cell
from robust_eval.results.store import Store

__all__ = ["by_their_answers"]


def by_their_answers(
    cells: Sequence[Cell], store: Store, *, tell: Callable[[str], None], write: bool = True
) -> list[Cell]:
    """Return the cells with each model known by its answers too, where those have changed since its first run here.

    The first answers of a model add nothing to its key; others get a word of their own, which later runs find again in
    ``models/`` of the run folder. Without ``write`` nothing is kept.
    """
    known: dict[str, OwnModel] = {}
    found = []
    for cell in cells:
        if not isinstance(cell.model, OwnModel) or cell.model.answers is None:
            found.append(cell)
            continue
        key = content_key(cell.model.identity)
        if key not in known:
            known[key] = _told_apart(cell.model, store.answers(key), tell, write=write)
        found.append(replace(cell, model=known[key]))
    return found


def _told_apart(model: OwnModel, path: Path, tell: Callable[[str], None], *, write: bool) -> OwnModel:
    assert model.answers is not None
    shape = "x".join(map(str, model.shape))
    with alone(path.with_name("lock")) if write else nullcontext():
        sets = _read(path)
        earlier = sets.get(shape, [])
        for i, one in enumerate(earlier):
            if same_answers(model.answers, _logits(one)):
                return model.told_apart(one["word"]) if i else model
        logits = model.answers.tolist()
        word = content_key({"logits": repr(logits)})[:12]
        if write:
            sets[shape] = [*earlier, {"word": word, "logits": logits}]
            write_text(path, json.dumps(sets) + "\n")
    if not earlier:
        return model
    tell(
        f"model {model.name}: the same files answer otherwise than when its records were made: it is another model, "
        "measured anew; the records of the earlier one stay"
    )
    return model.told_apart(word)


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the sets of answers by the shape of the images; none where there is no file or it is damaged."""
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))
        for earlier in sets.values():
            for one in earlier:
                _logits(one)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return dict(sets)


def _logits(one: dict[str, Any]) -> Tensor:
    if not isinstance(one["word"], str):
        raise ValueError(f"expected a word, got {one['word']!r}")
    return torch.tensor(one["logits"], dtype=torch.float32)
