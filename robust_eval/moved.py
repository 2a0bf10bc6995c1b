"""Where modules and names went when the code was laid out anew: what was imported before still is, with a warning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MODULES", "NAMES", "found_elsewhere", "install"]

MODULES = {
    "robust_eval.cell": "robust_eval.results.cell",
    "robust_eval.record": "robust_eval.results.record",
    "robust_eval.store": "robust_eval.results.store",
    "robust_eval.workbench": "robust_eval.evaluation.workbench",
    "robust_eval.plan": "robust_eval.config.plan",
    "robust_eval.recipe": "robust_eval.models.recipe",
    "robust_eval.model_source": "robust_eval.models.source",
    "robust_eval.normalized": "robust_eval.classifier.normalized",
    "robust_eval.examination": "robust_eval.checks.examination",
    "robust_eval.measurement": "robust_eval.findings",
    "robust_eval.passes": "robust_eval.methods",
    "reports.load": "robust_eval.results.load",
}
"""Modules by their former names."""
NAMES = {
    "robust_eval.types": dict.fromkeys(
        ("Bound", "Norm", "Pixels", "Spatial", "Threat", "parse_number"), "robust_eval.threat"
    ),
}
"""Names that left a module which is still there, and where they are now."""


def install() -> None:
    """Have Python find the modules by their former names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def found_elsewhere(module: str, name: str) -> Any:
    """Return what ``module`` called ``name`` before; raises ``AttributeError`` for what it never had."""
    if name not in NAMES.get(module, {}):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new = NAMES[module][name]
    _warn(f"{module}.{name}", f"{new}.{name}")
    return getattr(importlib.import_module(new), name)


class _Finder(MetaPathFinder, Loader):
    """Finds nothing but modules that have moved."""

    def __init__(self) -> None:
        self._own: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module that has moved is loaded."""
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module itself, not a copy: its classes are the same ones."""
        _warn(spec.name, MODULES[spec.name])
        module = importlib.import_module(MODULES[spec.name])
        self._own[module.__name__] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give it back its own name: it has been loaded already."""
        module.__spec__ = self._own[module.__name__]


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
