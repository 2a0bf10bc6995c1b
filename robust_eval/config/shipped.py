"""The experiments that come with the package."""

from __future__ import annotations

from importlib import resources
from typing import Any

from robust_eval.config.toml import toml

__all__ = ["named_experiments", "shipped"]


def named_experiments() -> list[str]:
    """Return the names of the experiments shipped with the package."""
    folder = resources.files("robust_eval") / "experiments"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def shipped(name: str) -> dict[str, Any]:
    """Return the tables of one of them as its file has them."""
    text = (resources.files("robust_eval") / "experiments" / f"{name}.toml").read_text(encoding="utf-8")
    return toml(text, where=f"experiment {name}")
