"""A network from its weights, its architecture and its normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from robust_eval.classifier.dtypes import in_its_dtype
from robust_eval.classifier.normalized import Normalized
from robust_eval.data import Examples
from robust_eval.errors import CheckpointError, ConfigError
from robust_eval.identity import file_sha256
from robust_eval.models._names import named_for
from robust_eval.models.checkpoint import (
    channels_of,
    classes_of,
    load_into,
    read_card,
    read_state,
)
from robust_eval.models.factory import is_factory, load_factory
from robust_eval.registry import build
from robust_eval.registry import described as described_method
from robust_eval.rng import Rng, seeded
from robust_eval.types import StochasticModule

__all__ = ["LoadedNetwork", "load_network", "recipe_on_card"]


class LoadedNetwork(NamedTuple):
    """A network with weights and normalisation, and what it was made of."""

    network: nn.Module
    arch: str
    """The name of its architecture, or of the function that made it."""
    architecture: dict[str, Any]
    """The description of the architecture, or the factory's function and the hashes of its file and of what it imports.
    """
    mean: list[float] | None
    std: list[float] | None

    def identity(self, weights_sha256: str) -> dict[str, Any]:
        """Return what decides the outputs."""
        return {
            "weights": weights_sha256,
            "architecture": self.architecture,
            "mean": self.mean,
            "std": self.std,
        }


def recipe_on_card(checkpoint: Path | str | None, *needed: str) -> dict[str, Any]:
    """Return the recipe on the checkpoint's card; nothing where it has none, or has a file of another kind."""
    card = (read_card(checkpoint) if checkpoint is not None else None) or {}
    recipe = card.get("recipe")
    return recipe if isinstance(recipe, dict) and set(needed) <= set(recipe) else {}


def load_network(
    checkpoint: Path | str | None,
    architecture: str | dict[str, Any] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    *,
    recipe: dict[str, Any],
    examples: Examples | None = None,
    where: str = "",
    seed: int | None = None,
) -> LoadedNetwork:
    """Return a network from its weights and architecture; what is left out is as ``recipe`` says.

    ``examples`` are what it will be asked, if that is known; channels and classes come from them where the weights do
    not tell. Without a checkpoint, weights are drawn from ``seed``. Raises ``RobustEvalError`` when anything does not
    fit; ``where`` begins what is said of the normalisation.
    """
    if mean is None and std is None:
        mean, std = recipe.get("mean"), recipe.get("std")
    if architecture is None:
        architecture = {"name": recipe["architecture"]["name"], **recipe["architecture"]["params"]}
    described: dict[str, Any]
    if isinstance(architecture, str) and is_factory(architecture):
        file, _, arch = architecture.rpartition(":")
        network, code = load_factory(architecture)
        described = {"factory": file_sha256(file), "function": arch}
        if code:  # left out of the key of a file that stands alone, as it was before there was any
            described["code"] = code
        if checkpoint is not None:
            load_into(network, read_state(checkpoint), source=checkpoint)
    else:
        fields = {"name": architecture} if isinstance(architecture, str) else dict(architecture)
        arch = fields.pop("name", "")
        method = build("architecture", arch, fields)
        described = described_method(method)
        channels, classes = (3, 10) if examples is None else (examples.shape[0], examples.classes)
        if checkpoint is None:
            if seed is None:
                raise CheckpointError(
                    f"model: expected a checkpoint for {arch}, got none; give the path of its weights"
                )
            # those that a recipe of this seed starts from
            with seeded(Rng(seed).child("train", "init")):
                network = method.network(channels=channels, classes=classes)
        else:
            state = read_state(checkpoint)
            if method.head not in state:  # under a prefix beside others; the names are those of any size
                with torch.device("meta"):
                    state = named_for(method.network(channels=3, classes=10).state_dict(), state, checkpoint)
            network = method.network(
                channels=channels_of(state) or channels, classes=classes_of(state, method) or classes
            )
            load_into(network, state, source=checkpoint)
    network = in_its_dtype(network)
    if mean is not None and isinstance(network, StochasticModule):
        raise ConfigError(
            f"{where}mean: expected the normalisation inside a stochastic network, which mixes pixels in [0, 1], got "
            "one around it; put Normalized(network, mean, std) into the factory"
        )
    if mean is not None and std is not None:
        for option, numbers in (("mean", mean), ("std", std)):
            if examples is not None and len(numbers) != examples.shape[0]:
                raise ConfigError(
                    f"{option}: expected {examples.shape[0]} numbers, one per channel, got {list(numbers)}"
                )
        network = Normalized(network, mean, std)
    elif mean is not None or std is not None:
        given, absent = ("mean", "std") if std is None else ("std", "mean")
        raise ConfigError(f"{where}{given}: expected mean and std together, got no {absent}; give both")
    return LoadedNetwork(network, arch, described, _floats(mean), _floats(std))


def _floats(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
