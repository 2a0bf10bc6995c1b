"""A network from the user's own code: ``path/to/file.py:factory``, or ``path/to/file.py:factory(depth=18)``.

Arguments are literals, by name. The names of this project's packages (``trainers``, ``defenses``, ``reports``) are
ordinary ones, and a user's code may have its own. While the file is imported and the factory runs, what lies beside the
file wins, as it would when the file is run by itself; afterwards the import state is as before. Modules of that folder
are forgotten then, so a network should not import from it later, inside ``forward``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from torch import nn

from robust_eval.errors import ConfigError, near
from robust_eval.identity import users_code
from robust_eval.models.call import call_in
from robust_eval.models.function import Function
from robust_eval.models.zoo import ENTRIES, entry_of
from robust_eval.registry import methods_kept
from robust_eval.surroundings import surroundings_kept

__all__ = ["Made", "call_factory", "is_factory", "load_factory"]

_OURS = ("defenses", "reports", "trainers")


class Made(NamedTuple):
    """What a factory gave, and what it was made by."""

    network: nn.Module
    code: dict[str, str]
    """The sha256 of each module of the user's that the factory's file has imported, by name."""


def load_factory(spec: str) -> Made:
    """Return what the factory of ``path/to/file.py:factory`` gives, called with the arguments behind it, or without.

    The factory is a function that returns a network or a function from images to logits, or a class derived from
    ``nn.Module``. Raises ``ConfigError``, one line, when
    the file or the factory is missing, raises, or does not give an ``nn.Module``.
    """
    network, code = call_factory(spec)
    if not isinstance(network, nn.Module) and inspect.isroutine(network):
        network = Function(network)
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{spec}: expected the factory to return an nn.Module, got {type(network).__name__}"
        )
    return Made(network, code)


def call_factory(spec: str) -> tuple[object, dict[str, str]]:
    """Return what a function gives, of whatever kind, and the sha256 of each module that its file has imported."""
    call = call_in(spec)
    path, name = _parsed(call.target)
    before = dict(sys.modules)
    with surroundings_kept(), methods_kept(), _folder_wins(path.parent):
        module = _imported(spec, path)
        factory = _factory(spec, module, name, call.arguments)
        try:
            made = factory(**call.arguments)
        except (Exception, SystemExit) as error:
            _blame(spec, f"the factory {name!r} raised", error, path)
        return made, users_code(path, before)


def _parsed(spec: str) -> tuple[Path, str]:
    file, colon, name = spec.rpartition(":")
    if not colon or not file or not name:
        known = (file or name) if (file or name).endswith(".py") else "file.py"
        raise ConfigError(
            f"expected file.py:factory, got {spec!r}; add the factory's name, as in '{known}:build'"
        )
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        beside = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        prefixed = [] if path.suffix == ".py" else [f"{prefix}:{name}" for prefix in ENTRIES]
        meant = near(f"{path.name}:{name}", prefixed) or near(path.name, beside)
        raise ConfigError(f"{spec}: no such file {file!r}{meant}")
    if path.suffix != ".py":
        raise ConfigError(f"{spec}: expected a Python file ending in .py, got {path.name!r}")
    return path, name


def _imported(spec: str, path: Path) -> ModuleType:
    # A file called types.py must not stand in for the standard library while it is imported.
    name = path.stem if not _is_standard(path.stem) else f"user_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        _blame(spec, "importing the file raised", error, path)
    return module


def _factory(spec: str, module: ModuleType, name: str, arguments: dict[str, Any]) -> Callable[..., object]:
    known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if not hasattr(module, name):
        listed = f"; it has {', '.join(known)}" if known else ""
        raise ConfigError(f"{spec}: no function {name!r} in the file{near(name, known)}{listed}")
    factory: Callable[..., object] = getattr(module, name)
    if isinstance(factory, nn.Module) or not callable(factory):
        got = type(factory).__name__
        raise ConfigError(f"{spec}: expected a function that returns a network, got an object of type {got}")
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        if arguments:
            raise ConfigError(
                f"{spec}: expected arguments of {name}{inspect.signature(factory)}, got others ({error})"
            ) from None
        raise ConfigError(
            f"{spec}: expected a factory without arguments, got {name}{inspect.signature(factory)} "
            f"({error}); give them in brackets, '{name}(depth=18)', or give them defaults"
        ) from None
    except ValueError:
        pass  # a callable written in C has no signature to look at
    return factory


def _blame(spec: str, what: str, error: BaseException, path: Path) -> NoReturn:
    """Raise ``ConfigError`` with the error and the innermost line of the user's code that led to it."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}, line {error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if Path(frame.filename).is_relative_to(path.parent)]
        last = (theirs or frames)[-1]
        where = f"{last.filename}, line {last.lineno}"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = ": ".join(filter(None, (type(error).__name__, " ".join(text.split()))))
    raise ConfigError(f"{spec}: {what} {text} ({where})") from None


@contextmanager
def _folder_wins(folder: Path) -> Iterator[None]:
    """Import from ``folder`` first, and put ``sys.path`` and ``sys.modules`` back on leaving."""
    importlib.invalidate_caches()
    path, before = list(sys.path), dict(sys.modules)
    beside = {module.name for module in pkgutil.iter_modules([str(folder)]) if not _is_standard(module.name)}
    hidden = {name for name in {*beside, *_OURS} if name in sys.modules and not _is_from(folder, name)}
    try:
        _forget(hidden)
        sys.path.insert(0, str(folder))
        _prefer_plain_folders(folder)
        yield
    finally:
        theirs = {name for name in map(_top, [*sys.modules]) if name not in before and _is_from(folder, name)}
        _forget(theirs | hidden)
        sys.modules.update(before)
        sys.path[:] = path


def _forget(names: set[str]) -> None:
    for name in [name for name in sys.modules if _top(name) in names]:
        del sys.modules[name]


def _prefer_plain_folders(folder: Path) -> None:
    """Import the user's packages of our names that lack an ``__init__.py``: the path would prefer ours."""
    for name in _OURS:
        place = folder / name
        if name not in sys.modules and any(place.glob("*.py")) and not (place / "__init__.py").exists():
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            sys.modules[name] = importlib.util.module_from_spec(spec)


def _is_from(folder: Path, name: str) -> bool:
    """Whether a loaded top-level module is the one that lies in ``folder``."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is not None:
        place = Path(file).resolve()
        return (place.parent.parent if place.name.startswith("__init__.") else place.parent) == folder
    return any(Path(place).resolve().parent == folder for place in getattr(module, "__path__", ()))


def _is_standard(name: str) -> bool:
    """Whether this is a loaded module of the standard library, which Python would not replace either."""
    return name == "__main__" or (name in sys.stdlib_module_names and name in sys.modules)


def _top(name: str) -> str:
    return name.partition(".")[0]


def is_factory(architecture: object) -> bool:
    """Whether an architecture is given as ``path/to/file.py:factory``, or as a file whose factory was forgotten."""
    if not isinstance(architecture, str) or entry_of(architecture) is not None:
        return False
    return ":" in architecture or architecture.endswith(".py")
