"""Which code of the user's a network was made by: the modules that its file imports, and those that they do."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from robust_eval.identity import file_sha256

__all__ = ["users_code"]

_HOME = Path(__file__).resolve().parents[2]
_OURS = tuple(_HOME / name for name in ("robust_eval", "defenses", "trainers", "reports"))
_INSTALLED = {"site-packages", "dist-packages"}


def users_code(path: Path, before: Mapping[str, ModuleType]) -> dict[str, str]:
    """Return the sha256 of the file of each module that ``path`` has imported, by the module's name; not its own.

    These are the modules that were loaded since ``before``, and what is named by import statements in them, which may
    have been loaded earlier. Installed packages, the standard library and this package are left out.
    """
    found: dict[str, Path] = {}
    waiting = [name for name, module in [*sys.modules.items()] if module is not before.get(name)]
    waiting += _imported_by(path, None)
    while waiting:
        name = waiting.pop()
        file = _users_file(name, path.parent)
        if file is None or name in found or file == path:
            continue
        found[name] = file
        waiting += _imported_by(file, getattr(sys.modules[name], "__package__", None))
    return {name: file_sha256(file) for name, file in sorted(found.items())}


def _users_file(name: str, folder: Path) -> Path | None:
    """Return the file of a loaded module of the user's, which lies in ``folder`` or on Python's path."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(file, str) or not Path(file).is_file():
        return None
    path = Path(file).resolve()
    if _INSTALLED & set(path.parts) or any(path.is_relative_to(place) for place in (*_OURS, *_standard())):
        return None
    places = [folder, *(Path(place).resolve() for place in sys.path if Path(place).is_dir())]
    return path if any(path.is_relative_to(place) for place in places) else None


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
