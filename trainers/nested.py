"""A regularizer in a field of another: given by its name, as a table with its fields, or as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from robust_eval.methods import Regularizer
from robust_eval.registry import build, plain

__all__ = ["Nested", "name_of"]


def _built(value: Any) -> Any:
    if isinstance(value, Regularizer):
        return value
    table = {"name": value} if isinstance(value, str) else value
    name = table.get("name") if isinstance(table, Mapping) else None
    if not isinstance(name, str):
        raise ValueError(
            "expected the name of a regularizer, or a table such as { name = 'mixup', alpha = 0.2 }, "
            f"got {value!r}"
        )
    return build("regularizer", name, {field: given for field, given in table.items() if field != "name"})


Nested = Annotated[Regularizer, BeforeValidator(_built)]
"""A regularizer; what is no such thing yet is built from its name or table."""


def name_of(regularizer: Regularizer) -> str:
    """Return the name that a regularizer is registered under, or of its class."""
    found = plain(regularizer)
    name = found["name"] if isinstance(found, Mapping) else found
    return name if isinstance(name, str) else type(regularizer).__name__
