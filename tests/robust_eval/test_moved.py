"""What was imported before the code was laid out anew still is."""

import importlib
import sys

import pytest

from robust_eval import moved


@pytest.mark.parametrize("old", moved.MODULES)
def test_a_module_is_found_by_its_former_name_with_a_warning(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=rf"{old} is now {moved.MODULES[old]}"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(moved.MODULES[old])


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in moved.NAMES.items() for n in names])
def test_a_name_is_found_where_it_was(module, name):
    with pytest.warns(DeprecationWarning, match="is now"):
        found = getattr(importlib.import_module(module), name)
    assert found is getattr(importlib.import_module(moved.NAMES[module][name]), name)


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("robust_eval.nowhere")
    with pytest.raises(ImportError, match="nothing"):
        from robust_eval.types import nothing  # noqa: F401


def test_a_module_keeps_its_own_name():
    from robust_eval.results import store

    with pytest.warns(DeprecationWarning):
        sys.modules.pop("robust_eval.store", None)
        importlib.import_module("robust_eval.store")
    assert (
        store.__name__ == "robust_eval.results.store" and store.__spec__.name == "robust_eval.results.store"
    )
