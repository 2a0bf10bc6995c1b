"""Weights in and out of files: any plain checkpoint in, safetensors with a JSON card out.

Reading never runs code from a file: a pickle that asks for it is refused, with the reason. Writing is atomic,
weights first and card last, so a card that is there always has its weights beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import CheckpointError
from robust_eval.files import atomic_path, write_text
from robust_eval.identity import file_sha256
from robust_eval.methods import Architecture
from robust_eval.models._content import SUFFIXES, one_line, some, weights_in
from robust_eval.models._names import named_for, required, without_prefixes

__all__ = ["channels_of", "classes_of", "load_into", "read_card", "read_state", "save", "state_sha256"]


def read_state(path: str | Path, weights: str | None = None) -> dict[str, Tensor]:
    """Return the weights in a file by name, on the CPU, without the levels and prefixes that wrappers add.

    ``weights`` says where in the file they lie, if there are several.
    Raises ``CheckpointError``, one line, when the file is missing, needs code, or holds no plain weights.
    """
    return without_prefixes(weights_in(Path(path), weights))


def load_into(network: nn.Module, state: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Copy weights into a network. Every name and shape must agree; ``num_batches_tracked`` may be missing.

    Raises ``CheckpointError``, one line that starts with ``source`` and says what differs.
    """
    network = _inner(network)
    expected = network.state_dict()
    state = named_for(expected, state, source)
    missing = [name for name in required(expected) if name not in state]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name}: expected {list(expected[name].shape)}, got {list(value.shape)}"
        for name, value in state.items()
        if _has_shape(expected.get(name)) and expected[name].shape != value.shape
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    problems = [f"{len(found)} {what} ({some(found)})" for what, found in parts if found]
    if problems:
        fix = "choose the architecture, fields and number of classes that the weights were trained with"
        if not any(name in expected for name in state):
            fix = "no name agrees: name the network's own code as file.py:factory"
        raise CheckpointError(
            f"{source}: weights do not fit {type(network).__name__}: {'; '.join(problems)}; {fix}"
        )
    try:
        network.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f"{source}: weights cannot be copied into {type(network).__name__} ({one_line(error)}); "
            "save them dense and in a floating-point type"
        ) from None


def classes_of(state: Mapping[str, Tensor], architecture: Architecture) -> int | None:
    """Return the number of classes the weights were trained for, or None without the architecture's head."""
    weight = state.get(architecture.head)
    return None if weight is None or not weight.ndim else weight.shape[0]


def channels_of(state: Mapping[str, Tensor]) -> int | None:
    """Return the number of image channels the weights were trained for, or None without ``conv1.weight``."""
    weight = state.get("conv1.weight")
    return None if weight is None or weight.ndim != 4 else weight.shape[1]


def save(network: nn.Module, path: str | Path, card: Mapping[str, Any]) -> None:
    """Write ``PATH.safetensors``, then ``PATH.json``: the card, with the sha256 of the weights file added.

    Of a :class:`Normalized` network the inner weights are saved; its ``mean`` and ``std`` go into the card.
    """
    card_path = _pair(path)[1]
    weights_path = card_path.with_suffix(".safetensors")
    # Cloned: safetensors refuses weights that share memory.
    weights = {name: value.contiguous().clone() for name, value in _tensors(_inner(network)).items()}
    content = safetensors.torch.save(weights)
    card = {**card, **_normalisation(network), "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(card, indent=2, allow_nan=False) + "\n"
    # An interruption between the two files must not leave new weights beside an old card.
    card_path.unlink(missing_ok=True)
    with atomic_path(weights_path) as temporary:
        temporary.write_bytes(content)
    write_text(card_path, text)


def read_card(path: str | Path) -> dict[str, Any] | None:
    """Return the card beside a weights file, or None when there is none.

    Raises ``CheckpointError`` when it is not a card, or names another sha256 than its weights have.
    """
    weights_path, card_path = _pair(path)
    if not card_path.is_file():
        return None
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{card_path}: expected a card in JSON, got {one_line(error)}; delete it"
        ) from None
    if not isinstance(card, dict):
        raise CheckpointError(f"{card_path}: expected a JSON object, got {type(card).__name__}; delete it")
    if "sha256" in card and weights_path.is_file() and card["sha256"] != (got := file_sha256(weights_path)):
        raise CheckpointError(
            f"{card_path}: expected weights with sha256 {str(card['sha256'])[:12]}, got {got[:12]} in "
            f"{weights_path.name}; one of the two was replaced: delete the card or restore its weights"
        )
    return card


def state_sha256(network: nn.Module) -> str:
    """Return the sha256 of names, types, shapes and values of all weights, buffers and a normalisation."""
    digest = hashlib.sha256(json.dumps(_normalisation(network)).encode())
    for name, value in sorted(_tensors(_inner(network)).items()):
        digest.update(f"\n{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()


def _has_shape(expected: object) -> bool:
    """Whether a weight's shape is known; a lazy layer takes that of the file."""
    return isinstance(expected, Tensor) and not nn.parameter.is_lazy(expected)


def _inner(network: nn.Module) -> nn.Module:
    return network.network if isinstance(network, Normalized) else network


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict()
    return {name: value.detach().cpu() for name, value in state.items() if isinstance(value, Tensor)}


def _normalisation(network: nn.Module) -> dict[str, list[float]]:
    """Return mean and std as the shortest decimals that give the same float32, so that a card is readable."""
    if not isinstance(network, Normalized):
        return {}
    buffers = {"mean": network.mean, "std": network.std}
    return {
        name: [float(str(v)) for v in value.flatten().float().cpu().numpy()]
        for name, value in buffers.items()
    }


def _pair(path: str | Path) -> tuple[Path, Path]:
    """Return the paths of weights and card, whichever of the two, or their common beginning, is given."""
    path = Path(path)
    suffix = path.suffix.lower()
    stem = path.stem if suffix in (*SUFFIXES, ".json") else path.name
    is_weights = suffix in SUFFIXES or (suffix != ".json" and path.is_file())
    weights = path if is_weights else path.with_name(f"{stem}.safetensors")
    return weights, path.with_name(f"{stem}.json")
