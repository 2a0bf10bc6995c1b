"""Where methods are found by name: a decorator registers a frozen dataclass, ``build`` makes one from parameters
and ``describe`` gives name and parameters back.

The dataclass is its own schema: the decorator has pydantic check every field, refuse unknown ones and name the
near one. A method's ``version`` is raised when the numbers it gives would change; it is part of a record's key.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeVar, cast

import pydantic
import pydantic.dataclasses

from robust_eval.errors import THEIRS, ConfigError, UnknownNameError
from robust_eval.explained import explain
from robust_eval.identity import file_sha256, users_code
from robust_eval.surroundings import surroundings_kept

__all__ = [
    "Description",
    "Kind",
    "build",
    "card",
    "checked",
    "describe",
    "described",
    "discover",
    "explain",
    "find",
    "methods_kept",
    "names",
    "plain",
    "register",
    "resolver",
    "version",
]

Kind = Literal[
    "attack",
    "corruption",
    "defense",
    "regularizer",
    "curriculum",
    "architecture",
    "data",
    "examination",
    "analysis",
]
T = TypeVar("T")

# Packages of the floor, imported when their kind is first asked for. What lives above (defenses, regularizers)
# is imported by the roof and registers itself.
_FLOOR: dict[str, str] = {
    "attack": "robust_eval.attacks",
    "corruption": "robust_eval.corruptions",
    "architecture": "robust_eval.models.architectures",
    "data": "robust_eval.data",
    "analysis": "robust_eval.analyses",
}
PLUGINS = "robust_eval.plugins"
"""The group of entry points by which an installed package names modules that register methods."""
_METHODS: dict[tuple[str, str], type[Any]] = {}
_ENTRIES: dict[type[Any], tuple[Kind, str, int]] = {}
_CODE: dict[type[Any], tuple[str, dict[str, str]]] = {}
"""The sha256 of the file of each method that a user's own module has registered, and of the user's modules that it
imports, by name."""
_OURS = ("robust_eval", "defenses", "trainers", "reports")
_RESOLVERS: dict[tuple[Kind, str], Callable[[str], Resolved]] = {}


class Resolved(NamedTuple):
    """A method made on demand: its own name behind the prefix, however it was asked for, and its dataclass."""

    name: str
    cls: type[Any]
    version: int = 1


class Description(NamedTuple):
    """A method as plain data: enough to build it again and to tell it from any other."""

    kind: Kind
    name: str
    params: dict[str, Any]
    version: int


def register(kind: Kind, name: str, *, version: int = 1) -> Callable[[type[T]], type[T]]:
    """Return a class decorator, placed above ``@dataclass(frozen=True, kw_only=True)``, that registers a method.

    Raises ``ValueError`` when the name is already taken by a class of another module, and for a field that hides a
    method.
    """

    def decorate(cls: type[T]) -> type[T]:
        if (hidden := _hidden(cls)) is not None:
            field = hidden.rpartition(".")[2]
            raise ValueError(
                f"{kind} {name!r}: its field {field!r} hides the method {hidden}; rename the field"
            )
        method = checked(cls)
        earlier = _METHODS.get((kind, name))
        if earlier is not None and (earlier.__module__, earlier.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(
                f"{kind} {name!r} of {cls.__module__} is already registered by {earlier.__module__}"
            )
        # another process builds it anew: a class made on demand, behind a prefix, has no module to be found in
        method.__reduce__ = _reduced  # type: ignore[method-assign, assignment]
        _METHODS[kind, name] = method
        _ENTRIES[method] = (kind, name, version)
        if (file := _users_file(cls)) is not None and ":" not in name:
            package = getattr(sys.modules.get(cls.__module__), "__package__", None)
            _CODE[method] = file_sha256(file), users_code(Path(file), package=package)
        return method

    return decorate


def _hidden(cls: type[Any]) -> str | None:
    """Return the first method of a parent's that one of the class's fields hides; ``None`` where none does."""
    own = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    return next(
        (
            f"{parent.__name__}.{name}"
            for parent in cls.__mro__[1:]
            for name in own
            if inspect.isfunction(vars(parent).get(name))
        ),
        None,
    )


def _reduced(method: Any) -> tuple[Any, ...]:
    kind, name, _ = _ENTRIES[type(method)]
    fields = {f.name: getattr(method, f.name) for f in dataclasses.fields(method) if f.init}
    return build, (kind, name, fields)


@contextmanager
def methods_kept() -> Iterator[None]:
    """Keep each method the class that it was, should its module be imported anew meanwhile; new ones stay."""
    before = dict(_METHODS)
    try:
        yield
    finally:
        _METHODS.update(before)


def resolver(kind: Kind, prefix: str) -> Callable[[Callable[[str], Resolved]], Callable[[str], Resolved]]:
    """Return a decorator for a function that makes the method ``prefix:NAME`` when it is first asked for.

    Such methods are found, built and described like any other, and are no part of :func:`names`.
    """

    def decorate(make: Callable[[str], Resolved]) -> Callable[[str], Resolved]:
        _RESOLVERS[kind, prefix] = make
        return make

    return decorate


def checked(cls: type[T]) -> type[T]:
    """Return the frozen dataclass with every field checked on construction and unknown fields refused."""
    config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    made = cast("type[T]", pydantic.dataclasses.dataclass(cls, frozen=True, config=config))
    made.__doc__ = cls.__doc__  # pydantic drops it
    return made


def discover(package: ModuleType) -> None:
    """Import every public module of a package, so that the methods in it register themselves."""
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")


def names(kind: Kind) -> list[str]:
    """Return the registered names of a kind, sorted; without those behind a prefix, made on demand."""
    _load(kind)
    return sorted(name for other, name in _METHODS if other == kind and ":" not in name)


def find(kind: Kind, name: str) -> type[Any]:
    """Return the class registered under a name; raises ``UnknownNameError`` with the nearest name."""
    _load(kind)
    if (kind, name) not in _METHODS:
        prefix, colon, rest = name.partition(":")
        if not colon or (kind, prefix) not in _RESOLVERS:
            behind = [f"{known}:NAME" for of, known in _RESOLVERS if of == kind] if colon else []
            raise UnknownNameError(kind, name, [*names(kind), *behind])
        own, cls, version = _RESOLVERS[kind, prefix](rest)
        if (kind, f"{prefix}:{own}") not in _METHODS:
            register(kind, f"{prefix}:{own}", version=version)(cls)
        _METHODS[kind, name] = _METHODS[kind, f"{prefix}:{own}"]
    return _METHODS[kind, name]


def build(kind: Kind, name: str, params: Mapping[str, Any]) -> Any:
    """Return the method of this name with these parameters; raises ``ConfigError`` listing every bad field."""
    cls = find(kind, name)
    if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
        raise ConfigError(
            f"{kind} {name!r}: expected a class with the method{'s' * (len(lacking) > 1)} {', '.join(lacking)}, "
            f"got {cls.__module__}.{cls.__qualname__} without; see robust-eval guide add-a-method"
        )
    try:
        return cls(**params)
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, cls, where=f"{kind} {name!r}")) from None


def describe(method: object) -> Description:
    """Return kind, name, parameters and version of a registered method: the inverse of ``build``.

    A field with ``metadata={"identity": False}``, such as a path whose content is known by its hash, is left out; one
    with ``{"identity": "given"}`` is where it has its default, so that adding it to a method changes no key.
    """
    kind, name, version = _ENTRIES[type(method)]
    return Description(kind, name, _fields(method), version)


def described(method: object) -> dict[str, Any]:
    """Return what decides the numbers of a method, as plain data: its description, raised versions of the methods in
    its fields, and for one of a user's own module the sha256 of that file and of those that it imports, which are
    edited more often than a version is raised.
    """
    found = dict(_within(method))
    code: dict[str, str] = {}
    for name, cls in found.items():
        if cls in _CODE:
            own, imported = _CODE[cls]
            code |= {**imported, name: own}
    raised = {
        name: version(cls) for name, cls in found.items() if cls is not type(method) and version(cls) > 1
    }
    more = {"code": code, "versions": raised}
    return {**describe(method)._asdict(), **{word: value for word, value in more.items() if value}}


def version(method: type[Any]) -> int:
    """Return the version of a registered class."""
    return _ENTRIES[method][2]


def card(kind: Kind, name: str) -> str:
    """Return the method's card: the docstring of its module, or of its class where a module holds several."""
    cls = find(kind, name)
    alone = sum(other.__module__ == cls.__module__ for other in _ENTRIES) == 1
    module = sys.modules[cls.__module__].__doc__ if cls.__module__ in sys.modules else None
    return ((alone and module) or cls.__doc__ or "").strip()


def _load(kind: Kind) -> None:
    if kind in _FLOOR:
        importlib.import_module(_FLOOR[kind])
    _load_plugins()


@cache
def _load_plugins() -> None:
    """Import what installed packages name in the group of entry points, so that their methods register themselves."""
    for plugin in entry_points(group=PLUGINS):
        try:
            with surroundings_kept():
                plugin.load()
        except THEIRS as error:
            said = " ".join(str(error).split())
            raise ConfigError(
                f"plug-in {plugin.name} ({plugin.value}): cannot be imported ({type(error).__name__}: {said}); "
                "mend it, or uninstall its package"
            ) from None


def _users_file(cls: type[Any]) -> str | None:
    """Return the file of a class that is none of ours; ``None`` where it has none."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    theirs = cls.__module__.partition(".")[0] not in _OURS
    return file if theirs and file is not None and Path(file).is_file() else None


def _within(value: Any) -> Iterator[tuple[str, type[Any]]]:
    """Give the names and classes of a method and of those in its fields."""
    if type(value) in _ENTRIES:
        yield ":".join(_ENTRIES[type(value)][:2]), type(value)
        for field in dataclasses.fields(value):
            yield from _within(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _within(item)


def plain(value: Any) -> Any:
    """Reduce a field's value to what JSON holds: a method in it to its name, or where it has fields of its own to a
    table, as an experiment file has them.
    """
    if type(value) in _ENTRIES:
        name = _ENTRIES[type(value)][1]
        given = any(getattr(value, field.name) != field.default for field in dataclasses.fields(value))
        return {"name": name, **_fields(value)} if given else name
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _fields(method: Any) -> dict[str, Any]:
    values = {field: getattr(method, field.name) for field in dataclasses.fields(method)}
    return {field.name: plain(value) for field, value in values.items() if _identifies(field, value)}


def _identifies(field: dataclasses.Field[Any], value: Any) -> bool:
    identity = field.metadata.get("identity", True)
    return bool(value != field.default) if identity == "given" else bool(identity)
