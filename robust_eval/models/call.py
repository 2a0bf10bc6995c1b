"""A name with the arguments of a call behind it, such as ``net.py:build(depth=18)``: literals only, no code is run."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

from robust_eval.errors import ConfigError

__all__ = ["Call", "call_in"]

_MOST = 20
"""Brackets of a path that are looked behind."""


class Call(NamedTuple):
    """What is called, and with which arguments."""

    target: str
    arguments: dict[str, Any]

    @property
    def described(self) -> dict[str, str]:
        """The arguments as text, which JSON holds whatever they are."""
        return {name: repr(value) for name, value in sorted(self.arguments.items())}


def call_in(spec: str) -> Call:
    """Return target and arguments of ``target(name=literal, ...)``; a name without brackets has none.

    A path before them may hold brackets of its own. Raises ``ConfigError`` for arguments that are not named, or are
    code.
    """
    if not spec.endswith(")"):
        return Call(spec, {})
    opening = [at for at, letter in enumerate(spec) if letter == "("]
    for at in opening[:_MOST]:
        if (call := _call(spec[at:])) is not None:
            return Call(spec[:at], _arguments(spec, call))
    raise ConfigError(
        f"{spec}: expected arguments such as (depth=18, name='b'), got {spec[spec.find('(') :]!r}"
    )


def _call(text: str) -> ast.Call | None:
    try:
        found = ast.parse(f"f{text}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, ast.Call) and isinstance(found.func, ast.Name) else None


def _arguments(spec: str, call: ast.Call) -> dict[str, Any]:
    if call.args or any(word.arg is None for word in call.keywords):
        raise ConfigError(f"{spec}: expected arguments by name, such as (depth=18), got some without")
    found: dict[str, Any] = {}
    for word in call.keywords:
        try:
            found[str(word.arg)] = ast.literal_eval(word.value)
        except (ValueError, TypeError, RecursionError, MemoryError):
            raise ConfigError(
                f"{spec}: {word.arg}: expected a number, a text, true or false, or a list of such, got code "
                f"({ast.unparse(word.value)}), which is not run"
            ) from None
    return found
