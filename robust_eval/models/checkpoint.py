"""Weights in and out of files: any plain checkpoint in, safetensors with a JSON card out.

Reading never runs code from a file: a pickle that asks for it is refused, with the reason. Writing is atomic,
weights first and card last, so a card that is there always has its weights beside it.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import CheckpointError
from robust_eval.files import atomic_path, write_text
from robust_eval.identity import existing, file_sha256
from robust_eval.methods import Architecture

__all__ = ["channels_of", "classes_of", "load_into", "read_card", "read_state", "save", "state_sha256"]

_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
# Training scripts store the weights beside the optimizer under one of these; the first one present counts.
_LEVELS = ("state_dict", "model", "model_state_dict", "net", "ema")
# Put in front of every name by DataParallel, torch.compile and Lightning modules.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_FIX = "save `model.state_dict()` alone with torch.save, or as .safetensors"
# How files begin that are often saved in the place of a checkpoint.
_IMPOSTORS = {
    b"<": "a web page; download the file again",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull`",
    b"\x89HDF": "an HDF5 file; convert it to .safetensors",
}


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the weights in a file by name, on the CPU, without the levels and prefixes that wrappers add.

    Raises ``CheckpointError``, one line, when the file is missing, needs code, or holds no plain weights.
    """
    path = existing(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise CheckpointError(
            f"{path}: expected a file ending in {', '.join(_SUFFIXES)}, got {path.suffix!r}"
        )
    if not path.stat().st_size:
        raise CheckpointError(f"{path}: expected weights, got an empty file; copy or download it again")
    content = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
    return _without_prefixes(_unwrapped(content, path))


def load_into(network: nn.Module, state: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Copy weights into a network. Every name and shape must agree; ``num_batches_tracked`` may be missing.

    Raises ``CheckpointError``, one line that starts with ``source`` and says what differs.
    """
    network = _inner(network)
    expected = network.state_dict()
    state = _renamed(state, expected)
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name}: expected {list(expected[name].shape)}, got {list(value.shape)}"
        for name, value in state.items()
        if isinstance(expected.get(name), Tensor) and expected[name].shape != value.shape
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    problems = [f"{len(found)} {what} ({_some(found)})" for what, found in parts if found]
    if problems:
        fix = "choose the architecture, fields and number of classes that the weights were trained with"
        if not any(name in expected for name in state):
            fix = "no name agrees: name the network's own code as file.py:factory"
        raise CheckpointError(
            f"{source}: weights do not fit {type(network).__name__}: {'; '.join(problems)}; {fix}"
        )
    network.load_state_dict(dict(state), strict=False)


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
            f"{card_path}: expected a card in JSON, got {_line(error)}; delete it"
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
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load_file(path))
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path}: expected a safetensors file, got {_looks_like(path, error)}"
        ) from None


def _read_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # Torch warns of unusual files before it refuses them; the refusal is told below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on a damaged file the unpickler raises almost anything
        raise CheckpointError(f"{path}: {_refusal(path, error)}") from None


def _refusal(path: Path, error: Exception) -> str:
    names = _archive_names(path)
    if any(name.endswith("/constants.pkl") for name in names):
        return f"expected plain weights, got a TorchScript archive; {_FIX}"
    pickled = _pickle_bytes(path, names)
    refused = re.search(r"GLOBAL (\S+)", str(error))
    called = f" ({refused[1]})" if refused else ""
    if b"_parameters" in pickled and b"_modules" in pickled:
        return f"expected plain weights, got a whole pickled module{called}, whose code is not run; {_FIX}"
    if refused or (isinstance(error, pickle.UnpicklingError) and pickled.startswith(b"\x80")):
        return f"expected plain weights, got a pickle that needs code{called}, which is not run; {_FIX}"
    return f"expected a checkpoint, got {_looks_like(path, error)}"


def _archive_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def _pickle_bytes(path: Path, names: Iterable[str], limit: int = 2**24) -> bytes:
    """Return the beginning of the pickle in a file, only to look at; old files have no archive around it."""
    inside = [name for name in names if name.endswith("data.pkl")]
    if not inside:
        with path.open("rb") as file:
            return file.read(limit)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(inside[0]) as member:
            return member.read(limit)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        return b""


def _looks_like(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(24)
    for beginning, what in _IMPOSTORS.items():
        if start.lstrip().startswith(beginning):
            return what
    if start.startswith(b"PK") or path.suffix.lower() == ".safetensors":
        return f"a damaged or unknown file ({_line(error)}); copy or download it again"
    return f"a file that begins with {start[:12]!r}; {_FIX}"


def _unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    while not (isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())):
        if isinstance(content, nn.Module):
            raise CheckpointError(f"{path}: expected plain weights, got a whole pickled module; {_FIX}")
        if not isinstance(content, Mapping):
            raise CheckpointError(f"{path}: expected weights by name, got {type(content).__name__}; {_FIX}")
        inside = [content[level] for level in _LEVELS if isinstance(content.get(level), Mapping)]
        if not inside:
            other = [
                f"{key}: {type(value).__name__}"
                for key, value in content.items()
                if not isinstance(value, Tensor)
            ]
            raise CheckpointError(f"{path}: expected only tensors by name, got {_some(other)}; {_FIX}")
        content = inside[0]
    if not content:
        raise CheckpointError(f"{path}: expected weights, got a checkpoint without any; {_FIX}")
    return {str(name): value for name, value in content.items()}


def _common_prefix(names: Iterable[str], prefixes: Iterable[str] = _PREFIXES) -> str:
    """Return the wrappers' prefixes that every name starts with, such as ``module._orig_mod.``."""
    names, found = list(names), ""
    while names and (step := next((p for p in prefixes if all(n.startswith(found + p) for n in names)), "")):
        found += step
    return found


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = _common_prefix(state)
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _renamed(state: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Give the names the prefixes of this network: it may itself keep everything under ``model.``."""
    prefix = _common_prefix(expected)
    return {prefix + name: value for name, value in _without_prefixes(state).items()}


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
    stem = path.stem if path.suffix.lower() in (*_SUFFIXES, ".json") else path.name
    weights = path if path.suffix.lower() in _SUFFIXES else path.with_name(f"{stem}.safetensors")
    return weights, path.with_name(f"{stem}.json")


def _some(items: list[str], most: int = 5) -> str:
    return ", ".join(items[:most]) + (", ..." if len(items) > most else "")


def _line(error: BaseException) -> str:
    """The error's text in one line, cut where torch goes on about internals."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
