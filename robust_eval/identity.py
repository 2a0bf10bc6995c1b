"""What a thing is known by: the hash of plain data in canonical JSON, of a file, and of the files of code."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

from robust_eval.errors import CheckpointError, near
from robust_eval.paths import is_folder, misnamed, shown, what_is

__all__ = ["BY_FILES", "content_key", "existing", "file_sha256", "users_code", "users_place"]

BY_FILES = "-files"
"""Ends the fingerprint of test images that are told by their files, and by the pixels of some of them alone."""
_HOME = Path(__file__).resolve().parents[1]
_OURS = tuple(_HOME / name for name in ("robust_eval", "defenses", "trainers", "reports"))
_INSTALLED = {"site-packages", "dist-packages"}


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def existing(path: str | Path) -> Path:
    """Return the path of a file that can be read; raises ``CheckpointError`` for one that cannot."""
    path = Path(path)
    if (problem := misnamed(path)) is not None:
        raise CheckpointError(f"checkpoint: {problem}")
    if is_folder(path):
        raise CheckpointError(f"{path}: expected a file of weights, got a folder; name a file in it")
    if (found := what_is(path)) == "none":
        beside = [other.name for other in path.parent.iterdir()] if is_folder(path.parent) else []
        raise CheckpointError(f"{path}: no such file{near(path.name, beside)}")
    if found != "a file":
        raise CheckpointError(f"{shown(path)}: expected a file of weights, got {found}")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path}: expected a readable file; give yourself the right to read it")
    return path


def content_key(spec: dict[str, Any]) -> str:
    """Return the sha256 of plain data in canonical JSON."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def users_code(
    path: Path, before: Mapping[str, ModuleType] | None = None, *, package: str | None = None
) -> dict[str, str]:
    """Return the sha256 of the file of each module that ``path`` imports, by the module's name; not its own.

    These are the modules that were loaded since ``before``, and what is named by import statements in them, which may
    have been loaded earlier. Without ``before`` it is what is named alone, in the file of a module of this ``package``,
    and what is imported later, inside a function, is looked for in its folder and on Python's path. Installed packages,
    the standard library and this package are left out.
    """
    found: dict[str, Path] = {}
    path = path.resolve()
    loaded = {} if before is None else {**sys.modules}
    waiting = [name for name, module in loaded.items() if module is not (before or {}).get(name)]
    waiting += _imported_by(path, package)
    while waiting:
        name = waiting.pop()
        file = _users_file(name, path.parent, later=before is None)
        if file is None or name in found or file == path:
            continue
        found[name] = file
        within = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting += _imported_by(file, getattr(sys.modules.get(name), "__package__", within))
    return {name: file_sha256(file) for name, file in sorted(found.items())}


def _users_file(name: str, folder: Path, *, later: bool) -> Path | None:
    """Return the file of a module of the user's, which lies in ``folder`` or on Python's path; of one that is not
    loaded only where it is wanted ``later``.
    """
    places = [folder, *(Path(place).resolve() for place in sys.path if Path(place).is_dir())]
    file = getattr(sys.modules.get(name), "__file__", None)
    if later and name not in sys.modules:
        beside = [place.joinpath(*name.split(".")) for place in places]
        files = (file for place in beside for file in (place / "__init__.py", place.with_suffix(".py")))
        file = next((str(file) for file in files if file.is_file()), None)
    if not isinstance(file, str) or not Path(file).is_file():
        return None
    path = Path(file).resolve()
    if not _is_users(path):
        return None
    return path if any(path.is_relative_to(place) for place in places) else None


def users_place(error: BaseException) -> str | None:
    """Return file and line of the innermost code of the user's that an error came through; ``None`` without any."""
    places = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_file() and _is_users(Path(frame.filename).resolve())
    ]
    return places[-1] if places else None


def _is_users(path: Path) -> bool:
    """Whether a file is none of an installed package, the standard library or this package."""
    ours = any(path.is_relative_to(place) for place in (*_OURS, *_standard()))
    return not ours and not _INSTALLED & set(path.parts)


def _standard() -> Iterator[Path]:
    paths = sysconfig.get_paths()
    return (Path(paths[name]).resolve() for name in ("stdlib", "platstdlib"))


def _imported_by(path: Path, package: str | None) -> list[str]:
    """Return the names of modules in a file's import statements, those of the packages around them too."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # a compiled module
        return []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            module = "." * node.level + (node.module or "")
            module = resolve_name(module, package) if node.level else module
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in names]
    return sorted({".".join(part[: i + 1]) for part in parts for i in range(len(part))})
