"""Whether a model of the user's, or a surrogate, still answers as when its records were made: else it is another."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robust_eval.attacks.transfer import Transfer
from robust_eval.files import alone, write_text
from robust_eval.identity import content_key
from robust_eval.models.answers import same_answers
from robust_eval.models.source import OwnModel
from robust_eval.paths import is_file
from robust_eval.results.cell import Cell
from robust_eval.results.store import Store

__all__ = ["by_their_answers"]


def by_their_answers(
    cells: Sequence[Cell], store: Store, *, tell: Callable[[str], None], write: bool = True
) -> list[Cell]:
    """Return the cells with each model, and each surrogate that attacks are made on, known by its answers too, where
    those have changed since its first run here.

    The first answers of a model add nothing to its key; others get a word of their own, which later runs find again in
    ``models/`` of the run folder. Without ``write`` nothing is kept.
    """
    words: dict[tuple[str, tuple[int, ...]], str | None] = {}

    def word_of(title: str, identity: dict[str, Any], shape: tuple[int, ...], ask: _Ask) -> str | None:
        key = content_key(identity)
        if (key, shape) not in words:
            logits = ask()
            words[key, shape] = (
                None if logits is None else _word(title, logits, shape, store.answers(key), tell, write=write)
            )
        return words[key, shape]

    found = []
    for cell in cells:
        model, attack = cell.model, cell.perturbation
        if isinstance(model, OwnModel) and model.answers is not None:
            word = word_of(
                f"model {model.name}", model.identity, model.shape, partial(_itself, model.answers)
            )
            cell = cell if word is None else replace(cell, model=model.told_apart(word))
        if isinstance(attack, Transfer):
            shape, title = cell.data.examples.shape, f"surrogate of transfer:{attack.behind}"
            word = word_of(title, attack.network_identity, shape, partial(attack.answers, shape))
            cell = cell if word is None else replace(cell, perturbation=attack.told_apart(word))
        found.append(cell)
    return found


_Ask = Callable[[], Tensor | None]


def _itself(answers: Tensor) -> Tensor:
    return answers


def _word(
    title: str,
    answers: Tensor,
    shape_: tuple[int, ...],
    path: Path,
    tell: Callable[[str], None],
    *,
    write: bool,
) -> str | None:
    """Return what tells these answers from the first ones; ``None`` for the first."""
    shape = "x".join(map(str, shape_))
    with alone(path.with_name("lock")) if write else nullcontext():
        sets = _read(path)
        earlier = sets.get(shape, [])
        for i, one in enumerate(earlier):
            if same_answers(answers, _logits(one)):
                return str(one["word"]) if i else None
        logits = answers.tolist()
        word = content_key({"logits": repr(logits)})[:12]
        if write:
            sets[shape] = [*earlier, {"word": word, "logits": logits}]
            write_text(path, json.dumps(sets) + "\n")
    if not earlier:
        return None
    tell(
        f"{title}: the same files answer otherwise than when its records were made: it is another model, "
        "measured anew; the records of the earlier one stay"
    )
    return word


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the sets of answers by the shape of the images; none where there is no file or it is damaged."""
    if not is_file(path):
        return {}
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
