"""A network from its weights, its architecture and its normalisation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from robust_eval.classifier.dtypes import in_its_dtype
from robust_eval.classifier.normalized import Normalized
from robust_eval.data import Examples
from robust_eval.errors import CheckpointError, ConfigError
from robust_eval.identity import file_sha256
from robust_eval.models._names import Beside
from robust_eval.models.call import call_in
from robust_eval.models.checkpoint import channels_of, classes_of, read_card, read_state
from robust_eval.models.factory import is_factory, load_factory
from robust_eval.models.filling import fill, named_like
from robust_eval.models.named import file_named
from robust_eval.models.zoo import bring, entry_of
from robust_eval.registry import build
from robust_eval.registry import described as described_method
from robust_eval.rng import Rng, seeded
from robust_eval.types import StochasticModule

__all__ = ["LoadedNetwork", "load_network", "recipe_on_card"]

log = logging.getLogger(__name__)


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
    weights_under: str | None = None
    """Where in the checkpoint the weights lie, if that was said."""
    weights_sha256: str | None = None
    """Of the file they came from, if that is not the checkpoint itself."""
    class_names: tuple[str, ...] | None = None

    def identity(self, weights_sha256: str) -> dict[str, Any]:
        """Return what decides the outputs."""
        found = {
            "weights": weights_sha256,
            "architecture": self.architecture,
            "mean": self.mean,
            "std": self.std,
        }
        return found if self.weights_under is None else {**found, "weights_under": self.weights_under}


def recipe_on_card(checkpoint: Path | str | None, *needed: str) -> dict[str, Any]:
    """Return the recipe on the checkpoint's card; nothing where it has none, or has a file of another kind."""
    card = (read_card(checkpoint) if checkpoint is not None else None) or {}
    recipe = card.get("recipe")
    return recipe if isinstance(recipe, dict) and set(needed) <= set(recipe) else {}


class _Made(NamedTuple):
    """A network with its weights, without a normalisation, and what is known of that."""

    network: nn.Module
    arch: str
    described: dict[str, Any]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    said_by: str = ""
    """Where mean and std come from."""
    class_names: tuple[str, ...] | None = None
    weights_sha256: str | None = None


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
    weights: str | None = None,
    download: bool = False,
) -> LoadedNetwork:
    """Return a network from its weights and architecture; what is left out is as ``recipe`` says.

    ``weights`` says where in the checkpoint they lie; with ``download`` a library may fetch them. ``examples`` are what
    it will be asked, if that is known; channels and classes come from them where the weights do not tell. Without a
    checkpoint, weights are drawn from ``seed``. A mean and std that are not given are those on the card, in the file
    beside the weights, or of the library that the network is from. Raises ``RobustEvalError`` when anything does not
    fit; ``where`` begins what is said of the normalisation.
    """
    if mean is None and std is None:
        mean, std = recipe.get("mean"), recipe.get("std")
    if architecture is None:
        architecture = {"name": recipe["architecture"]["name"], **recipe["architecture"]["params"]}
    checkpoint = None if checkpoint is None else Path(checkpoint)
    if entry_of(architecture) is not None:
        made = _from_elsewhere(checkpoint, architecture, weights, download)
    elif download:
        raise ConfigError(
            f"--download: expected a network of a library, such as torchvision:NAME, got {architecture}; leave it out"
        )
    elif isinstance(architecture, str) and is_factory(architecture):
        made = _from_factory(checkpoint, architecture, weights)
    else:
        made = _ours(checkpoint, architecture, weights, examples, seed)
    network = in_its_dtype(made.network)
    if made.mean is not None and mean is None and std is None:
        log.warning(
            "%s%s: normalised inside the model by %s: mean %s, std %s; --mean and --std take others",
            where, made.arch, made.said_by, _listed(made.mean), _listed(made.std),
        )  # fmt: skip
        mean, std = made.mean, made.std
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
    return LoadedNetwork(
        network,
        made.arch,
        made.described,
        _floats(mean),
        _floats(std),
        weights,
        made.weights_sha256,
        made.class_names,
    )


def _from_elsewhere(
    checkpoint: Path | None, architecture: str | dict[str, Any], weights: str | None, download: bool
) -> _Made:
    name = architecture if isinstance(architecture, str) else str(architecture["name"])
    brought = bring(architecture, checkpoint=checkpoint, weights=weights, download=download)
    of = brought.preprocessing
    return _Made(
        brought.network,
        name,
        brought.described,
        of.mean,
        of.std,
        of.said_by,
        brought.class_names,
        brought.weights_sha256,
    )


def _from_factory(checkpoint: Path | None, architecture: str, weights: str | None) -> _Made:
    network, code = load_factory(architecture)
    file = file_named(architecture)
    assert file is not None
    arch = architecture.removeprefix(f"{file}:")
    described: dict[str, Any] = {"factory": file_sha256(file), "function": arch.partition("(")[0]}
    if code:  # left out of the key of a file that stands alone, as it was before there was any
        described["code"] = code
    if arguments := call_in(architecture).described:
        described["arguments"] = arguments
    beside = None
    if checkpoint is not None:
        beside = fill(network, read_state(checkpoint, weights), checkpoint)
    return _with(beside, _Made(network, arch, described))


def _ours(
    checkpoint: Path | None,
    architecture: str | dict[str, Any],
    weights: str | None,
    examples: Examples | None,
    seed: int | None,
) -> _Made:
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
            return _Made(method.network(channels=channels, classes=classes), arch, described)
    state = read_state(checkpoint, weights)
    beside = None
    if method.head not in state or "conv1.weight" not in state:  # under a prefix beside others
        # the names are those of any size
        state, beside = named_like(state, lambda: method.network(channels=3, classes=10), checkpoint)
    network = method.network(
        channels=channels_of(state) or channels, classes=classes_of(state, method) or classes
    )
    return _with(fill(network, state, checkpoint) or beside, _Made(network, arch, described))


def _with(beside: Beside | None, made: _Made) -> _Made:
    if beside is None:
        return made
    return made._replace(
        mean=beside.mean, std=beside.std, said_by=f"what lies beside its weights ({beside.place or 'mean'})"
    )


def _listed(values: Sequence[float] | None) -> str:
    return ", ".join(f"{value:.4g}" for value in values or ())


def _floats(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
