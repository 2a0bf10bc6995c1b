"""The two places a model comes from: a recipe that this experiment trains, or the user's own weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from robust_eval.adaptive.randomness import GlobalDraws, draws_by_itself
from robust_eval.cell import content_key
from robust_eval.classifier import frozen
from robust_eval.data import Examples
from robust_eval.errors import CheckpointError, ConfigError, DataError
from robust_eval.method_tables import is_factory
from robust_eval.models.checkpoint import (
    channels_of,
    classes_of,
    file_sha256,
    load_into,
    read_card,
    read_state,
    state_sha256,
)
from robust_eval.models.factory import load_factory
from robust_eval.normalized import Normalized
from robust_eval.recipe import Recipe
from robust_eval.registry import build, describe
from robust_eval.rng import Rng
from robust_eval.types import StochasticModule

PROBES = 16
"""Images on which a model is watched for randomness of its own."""

__all__ = ["LoadedNetwork", "OwnModel", "RecipeModel", "load_network", "own_model", "recipe_on_card"]


@dataclass(frozen=True)
class RecipeModel:
    """A model known by how it is trained, so that its cells have keys before it exists."""

    name: str
    recipe: Recipe
    examples: Examples = field(repr=False)
    """The images it is trained on."""

    @property
    def identity(self) -> dict[str, Any]:
        """The recipe and the training data's fingerprint."""
        return {"recipe": self.recipe.spec(), "data": self.examples.fingerprint}

    @property
    def key(self) -> str:
        """The name of its weights on disk."""
        return content_key(self.identity)

    @property
    def labels(self) -> dict[str, Any]:
        """Architecture, regularizer and training seed."""
        return {
            "arch": describe(self.recipe.architecture).name,
            "regularizer": describe(self.recipe.regularizer).name,
            "train_seed": self.recipe.seed,
        }

    @property
    def stochastic(self) -> bool:
        """No registered architecture is."""
        return False

    def untrained(self) -> nn.Module:
        """Return its network for images in [0, 1] [n,c,h,w], before training and without normalisation."""
        channels, _, _ = self.examples.shape
        return self.recipe.architecture.build(channels=channels, classes=self.examples.classes)


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A model of the user's, known by the hash of its file."""

    name: str
    network: nn.Module = field(repr=False)
    arch: str
    identity: dict[str, Any]
    weights_sha256: str
    regularizer: str = "unknown"
    train_seed: int | None = None
    classes: int | None = None
    """How many outputs it has, where that was tried."""

    @property
    def labels(self) -> dict[str, Any]:
        """Architecture, regularizer and training seed, the latter two as far as its card tells."""
        return {"arch": self.arch, "regularizer": self.regularizer, "train_seed": self.train_seed}

    @property
    def stochastic(self) -> bool:
        """Whether the network's output depends on draws, declared or not."""
        return isinstance(self.network, StochasticModule) and self.network.stochastic


def own_model(
    *,
    checkpoint: Path | None,
    architecture: str | dict[str, Any] | None,
    name: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    examples: Examples,
) -> OwnModel:
    """Load a model of the user's and try it on an image; raises ``RobustEvalError`` when anything does not fit."""
    recipe = recipe_on_card(checkpoint, "architecture", "regularizer", "seed")
    if architecture is None and not recipe:
        raise ConfigError(
            "model: expected an architecture (--arch NAME or --arch file.py:factory), got none; "
            "only a checkpoint with a card beside it can do without"
        )
    made = load_network(checkpoint, architecture, mean, std, recipe=recipe, examples=examples)
    network, arch = made.network, made.arch
    classes = _try_on(network, examples, arch)  # first, since lazy layers have no weights before
    weights = file_sha256(checkpoint) if checkpoint is not None else state_sha256(network)
    if not isinstance(network, StochasticModule) and _draws(network, examples):
        network = GlobalDraws(network)
    return OwnModel(
        name=name or (recipe["regularizer"]["name"] if recipe else checkpoint.stem if checkpoint else arch),
        network=network,
        arch=arch,
        identity=made.identity(weights),
        weights_sha256=weights,
        regularizer=recipe["regularizer"]["name"] if recipe else "unknown",
        train_seed=recipe["seed"] if recipe else None,
        classes=classes,
    )


class LoadedNetwork(NamedTuple):
    """A network with weights and normalisation, and what it was made of."""

    network: nn.Module
    arch: str
    """The name of its architecture, or of the function that made it."""
    architecture: dict[str, Any]
    """The description of the architecture, or the factory's function and the hash of its file."""
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
) -> LoadedNetwork:
    """Return a network from its weights and architecture; what is left out is as ``recipe`` says.

    ``examples`` are what it will be asked, if that is known; channels and classes come from them where the weights do
    not tell. Raises ``RobustEvalError`` when anything does not fit; ``where`` begins what is said of the normalisation.
    """
    if mean is None and std is None:
        mean, std = recipe.get("mean"), recipe.get("std")
    if architecture is None:
        architecture = {"name": recipe["architecture"]["name"], **recipe["architecture"]["params"]}
    described: dict[str, Any]
    if isinstance(architecture, str) and is_factory(architecture):
        file, _, arch = architecture.rpartition(":")
        network = load_factory(architecture)
        described = {"factory": file_sha256(file), "function": arch}
        if checkpoint is not None:
            load_into(network, read_state(checkpoint), source=checkpoint)
    else:
        fields = {"name": architecture} if isinstance(architecture, str) else dict(architecture)
        arch = fields.pop("name", "")
        method = build("architecture", arch, fields)
        described = describe(method)._asdict()
        if checkpoint is None:
            raise CheckpointError(
                f"model: expected a checkpoint for {arch}, got none; give the path of its weights"
            )
        state = read_state(checkpoint)
        channels, classes = (3, 10) if examples is None else (examples.shape[0], examples.classes)
        network = method.build(
            channels=channels_of(state) or channels, classes=classes_of(state, method) or classes
        )
        load_into(network, state, source=checkpoint)
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


def _draws(network: nn.Module, examples: Examples) -> bool:
    """Whether the network draws random numbers of its own; what it cannot answer is told by the cells it fails in."""
    with frozen(network):
        try:
            return draws_by_itself(network, examples[slice(PROBES)].pixels())
        except Exception:
            return draws_by_itself(network, examples[slice(2)].pixels())


def _try_on(network: nn.Module, examples: Examples, arch: str) -> int:
    """Return how many outputs the network has; raise unless it maps two of the images to logits that the labels fit."""
    shape = "x".join(map(str, examples.shape))
    tensors = [t for t in (*network.parameters(), *network.buffers()) if not torch.nn.parameter.is_lazy(t)]
    if any(tensor.is_inference() for tensor in tensors):
        raise CheckpointError(
            f"model {arch}: expected weights that autograd can use, got some made under torch.inference_mode; "
            "make or load them outside of it"
        )
    try:
        with frozen(network), torch.no_grad():
            few = examples[slice(2)].pixels()
            if isinstance(network, StochasticModule):
                network.redraw(Rng(0).for_batch(len(few)))
            output = network(few.clone())  # which may write into what it is given
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"model {arch}: cannot take images of {shape} ({reason}); give images it was made for, "
            "or the checkpoint for these"
        ) from None
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or len(output) != len(examples[slice(2)]):
        got = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise CheckpointError(f"model {arch}: expected logits [n,classes] for images [n,{shape}], got {got}")
    if not output.is_floating_point():
        raise CheckpointError(
            f"model {arch}: expected logits of a floating-point type, got {output.dtype}; return them before the argmax"
        )
    highest = int(examples.labels.max())
    if highest >= output.shape[1]:
        raise DataError(
            f"{examples.source}: expected labels in 0..{output.shape[1] - 1}, the outputs of {arch}, "
            f"got label {highest}; give the model's own data, or the checkpoint for these classes"
        )
    return int(output.shape[1])


def _floats(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
