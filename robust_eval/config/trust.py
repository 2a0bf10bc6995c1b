"""What of an experiment file would run code: modules it imports, factories that give networks or images, and programs.

A run folder may be anybody's, so that what its ``experiment.toml`` would run is asked for first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robust_eval.config.sources import is_data_factory
from robust_eval.models.named import runs_code

__all__ = ["code_in"]


def code_in(tables: Mapping[str, Any]) -> list[str]:
    """Return what code an experiment's tables would run, in words; nothing where they run none.

    Factories and programs are looked for under the word ``architecture`` in every table, those of models and of the
    surrogates of attacks; the tables need not have been validated.
    """
    modules = tables.get("imports")
    found = [f"imports: {modules!r}"] if modules else []
    found += dict.fromkeys(f"architecture: {spec!r}" for spec in _factories(tables))
    return [*found, *dict.fromkeys(f"data: {spec!r}" for spec in _data_factories(tables))]


def _data_factories(tables: Mapping[str, Any]) -> Iterator[str]:
    """Yield what would make images, among the sets that the tables name."""
    data, analyses = tables.get("data"), tables.get("analysis")
    named = [data.get("name"), data.get("pool")] if isinstance(data, Mapping) else []
    for table in analyses if isinstance(analyses, list | tuple) else ():
        other = table.get("other") if isinstance(table, Mapping) else None
        named += other if isinstance(other, list | tuple) else [other]
    yield from (str(name) for name in named if is_data_factory(name))


def _factories(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        inside = waiting.pop(0)
        if isinstance(inside, Mapping):
            if (spec := runs_code(inside.get("architecture"))) is not None:
                yield spec
            waiting += inside.values()
        elif isinstance(inside, list):
            waiting += inside
