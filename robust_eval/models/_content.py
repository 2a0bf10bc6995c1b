"""What lies in a file of weights, whatever it is called: read without running code from it, and unwrapped."""

from __future__ import annotations

import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from robust_eval.errors import CheckpointError, near
from robust_eval.identity import existing

__all__ = ["SUFFIXES", "content_of", "one_line", "some", "weights_in"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""The usual ends of names; ``.pth.tar``, ``.t7``, ``.pkl`` and none are read as well."""
# Training scripts store the weights beside the optimizer under one of these; the first one with weights counts.
_LEVELS = (
    *("state_dict", "model", "model_state_dict", "net", "ema"),
    *(
        "model_ema",
        "ema_model",
        "ema_state_dict",
        "model_ema_state_dict",
        "state_dict_ema",
        "params",
        "params_ema",
    ),
    *("network", "weights", "model_state", "net_state_dict", "best_state_dict", "best_model", "module"),
    *("teacher", "student", "classifier", "backbone", "encoder", "last", "best"),
)
_DEEPEST = 4
"""Levels around the weights that are looked through."""
_FIX = "save `model.state_dict()` alone with torch.save, or as .safetensors"
_CONVERT = (
    'where you trust it, convert it once: python -c "import torch; '
    "c = torch.load(r'{path}', weights_only=False); torch.save(c.get('state_dict', c.get('model', c)), 'plain.pt')\""
)
# How files begin that are often saved in the place of a checkpoint.
_IMPOSTORS = {
    b"<": "a web page; download the file again",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull`",
    b"\x89HDF": "an HDF5 file; convert it to .safetensors",
}

log = logging.getLogger(__name__)


def weights_in(path: Path, at: str | None = None) -> dict[str, Tensor]:
    """Return the weights in a file by name, dense and on the CPU, without the levels around them.

    ``at`` says where in the file, as ``ema`` or ``model.state_dict``; the first usual place if left out. Raises
    ``CheckpointError``, one line, when the file is missing, needs code, or holds no plain weights.
    """
    content = content_of(path)
    return {name: _dense(path, name, value) for name, value in _unwrapped(content, path, at).items()}


def content_of(path: Path) -> object:
    """Return what is in a file, read without running code; raises ``CheckpointError``, one line, where that cannot be
    done.
    """
    path = existing(path)
    if not path.stat().st_size:
        raise CheckpointError(f"{path}: expected weights, got an empty file; copy or download it again")
    return _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)


def _is_safetensors(path: Path) -> bool:
    """Whether it is named so, or begins as such a file does: with a length of eight bytes and a table in JSON."""
    with path.open("rb") as file:
        start = file.read(10)
    return path.suffix.lower() == ".safetensors" or start[8:] == b'{"'


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
        return (
            f"expected plain weights, got a TorchScript archive; {_FIX}, or name it as a program to be run: "
            f"--arch torchscript:{path}"
        )
    if any(
        name.endswith("/models/model.json") or name == "serialized_exported_program.json" for name in names
    ):
        return (
            f"expected plain weights, got a program of torch.export; {_FIX}, or name it as a program to be run: "
            f"--arch export:{path}"
        )
    if path.suffix.lower() == ".onnx":
        return (
            f"expected plain weights, got an ONNX graph; name it as a program to be run: --arch onnx:{path}"
        )
    pickled = _pickle_bytes(path, names)
    refused = re.search(r"GLOBAL (\S+)", str(error))
    called = f" ({refused[1]})" if refused else ""
    if b"_parameters" in pickled and b"_modules" in pickled:
        return f"expected plain weights, got a whole pickled module{called}, whose code is not run; {_FIX}"
    if refused or (isinstance(error, pickle.UnpicklingError) and pickled.startswith(b"\x80")):
        return (
            f"expected plain weights, got a pickle that needs code{called}, which is not run; {_FIX}; "
            f"{_CONVERT.format(path=path)}"
        )
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
        return f"a damaged or unknown file ({one_line(error)}); copy or download it again"
    return f"a file that begins with {start[:12]!r}; {_FIX}"


def _unwrapped(content: object, path: Path, at: str | None) -> dict[str, Tensor]:
    """Return the weights of the place asked for, or of the first level that has some; which one is told where several
    could be meant.
    """
    if at is not None:
        return {str(name): value for name, value in _asked_for(content, path, at).items()}
    found = list(_levels(content))
    if not found:
        others = [place for place, _ in _every(content)]
        fix = f"--weights KEY takes those under {some(list(map(repr, others)))}" if others else _FIX
        raise CheckpointError(f"{path}: {_missing(content)}; {fix}")
    # a configuration may hold a tensor or two, such as weights of classes
    most = max(len(state) for _, state in found)
    level, state = next((level, state) for level, state in found if 2 * len(state) >= most)
    if others := [other for other, _ in found if other != level]:
        log.warning(
            "%s: took the weights under %r, not those under %s; --weights KEY takes others",
            path,
            level,
            some(list(map(repr, others))),
        )
    return {str(name): value for name, value in state.items()}


def _levels(content: object, at: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[object, Tensor]]]:
    """Give each place with weights and nothing else, in the order in which they count."""
    if not isinstance(content, Mapping) or not content or depth > _DEEPEST:
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        yield at, content
        return
    for level in _LEVELS:
        yield from _levels(content.get(level), f"{at}.{level}".removeprefix("."), depth + 1)


def _asked_for(content: object, path: Path, at: str) -> Mapping[object, Tensor]:
    every = dict(_every(content))
    if at in every:
        return every[at]
    inside = [
        place for place in every if place.startswith(f"{at}.")
    ]  # model of {"model": {"state_dict": ...}}
    if len(inside) == 1:
        return every[inside[0]]
    known = [place for place in every if place]
    got = f"it has some under {some(list(map(repr, known)))}" if known else "it has them at its root"
    raise CheckpointError(f"{path}: --weights {at}: no weights there{near(at, known)}; {got}")


def _every(content: object, at: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[object, Tensor]]]:
    """Give each place with weights by name, whatever it is called; what an optimizer keeps is none."""
    if not isinstance(content, Mapping) or not content or depth > _DEEPEST:
        return
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        yield at, content
        return
    for name, value in content.items():
        if isinstance(name, str) and "optim" not in name and "sched" not in name:
            yield from _every(value, f"{at}.{name}".removeprefix("."), depth + 1)


def _missing(content: object) -> str:
    """Return what was expected and what is there, of a file without weights."""
    inside = content
    for _ in range(_DEEPEST):
        if isinstance(inside, Mapping):
            inside = next(
                (inside[level] for level in _LEVELS if isinstance(inside.get(level), Mapping)), inside
            )
    if isinstance(inside, nn.Module):
        return "expected plain weights, got a whole pickled module"
    if not isinstance(inside, Mapping):
        return f"expected weights by name, got {type(inside).__name__}"
    if not inside:
        return "expected weights, got a checkpoint without any"
    other = [
        f"{key}: {type(value).__name__}" for key, value in inside.items() if not isinstance(value, Tensor)
    ]
    return f"expected only tensors by name, got {some(other)}"


def _dense(path: Path, name: str, value: Tensor) -> Tensor:
    """Return a tensor that can be copied into any layer: pruned weights may be sparse."""
    if value.is_meta:
        raise CheckpointError(
            f"{path}: expected weights, got a shape without values for {name!r} (meta); {_FIX}"
        )
    try:
        return value.to_dense() if value.layout is not torch.strided else value
    except (RuntimeError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path}: expected plain weights, got {name!r} as {value.layout} ({one_line(error)}); {_FIX}"
        ) from None


def some(items: list[str], most: int = 5) -> str:
    """Return the first few of a list in words."""
    return ", ".join(items[:most]) + (", ..." if len(items) > most else "")


def one_line(error: BaseException) -> str:
    """Return the error's text in one line, cut where torch goes on about internals."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
