"""The two places a model comes from: a recipe that this experiment trains, or the user's own weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from robust_eval.adaptive.randomness import GlobalDraws
from robust_eval.classifier.given import black_box
from robust_eval.classifier.normalized import Normalized
from robust_eval.data import Examples
from robust_eval.errors import CheckpointError, ConfigError
from robust_eval.identity import content_key, file_sha256
from robust_eval.models.answers import ANSWERS, answers
from robust_eval.models.checkpoint import load_into, read_card, read_state, state_sha256
from robust_eval.models.class_names import class_names, compare_classes
from robust_eval.models.loading import load_network, recipe_on_card
from robust_eval.models.named import short_name
from robust_eval.models.reading import (
    as_logits,
    declares_draws,
    outputs_in_words,
    read_identity,
    say_outputs,
    watched,
)
from robust_eval.models.recipe import Recipe
from robust_eval.models.trying import PROBES, draws_by_nature, tried_on
from robust_eval.models.zoo import entry_of
from robust_eval.paths import shown as shown_path
from robust_eval.paths import what_is
from robust_eval.printable import printable
from robust_eval.registry import describe
from robust_eval.types import StochasticModule

log = logging.getLogger(__name__)

__all__ = [
    "Loaded",
    "ModelSource",
    "OwnModel",
    "RecipeModel",
    "WeightsOf",
    "own_model",
]


class Loaded(NamedTuple):
    """A network for images in [0, 1] [n,c,h,w], and what is known of its weights."""

    network: nn.Module
    weights_sha256: str
    training: dict[str, Any] | None = None
    """What its card says of how it was trained, beside the recipe: how much of noisy labels it learnt."""
    outputs: str | None = None
    """What it returns, in words, where that is not logits."""


@runtime_checkable
class ModelSource(Protocol):
    """Where a model comes from."""

    @property
    def name(self) -> str:
        """What the reader calls it."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its weights: a recipe, or the hash of a file."""

    @property
    def structure(self) -> dict[str, Any]:
        """What decides how fast it is, as far as that is known: models of the same architecture are equally fast."""

    @property
    def labels(self) -> dict[str, Any]:
        """``arch``, ``regularizer`` and ``train_seed`` for the report."""

    @property
    def classes(self) -> int | None:
        """How many outputs it has, where that is known."""

    @property
    def stochastic(self) -> bool:
        """Whether its output depends on draws."""

    def load(self, weights_of: WeightsOf) -> Loaded:
        """Return the model to be evaluated; ``weights_of`` is asked for the weights of a recipe."""

    def untrained(self) -> Loaded:
        """Return a model of the same structure at no cost, whose weights may be any."""


@dataclass(frozen=True)
class RecipeModel:
    """A model known by how it is trained, so that its cells have keys before it exists."""

    name: str
    recipe: Recipe
    examples: Examples = field(repr=False)
    """The images it is trained on."""
    test: Examples | None = field(default=None, repr=False)
    """Images on which accuracy is watched after each pass; nothing is chosen by it, unless the curriculum says so."""

    @property
    def identity(self) -> dict[str, Any]:
        """The recipe and the training data's fingerprint; that of the test images too if they decide anything."""
        identity = {"recipe": self.recipe.spec(), "data": self.examples.fingerprint}
        curriculum = self.recipe.curriculum
        if self.test is not None and curriculum is not None and curriculum.looks_at_test:
            identity["test"] = self.test.fingerprint
        return identity

    @property
    def structure(self) -> dict[str, Any]:
        """The architecture."""
        return describe(self.recipe.architecture)._asdict()

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

    @property
    def classes(self) -> int:
        """As many as its training images have."""
        return self.examples.classes

    def load(self, weights_of: WeightsOf) -> Loaded:
        """Return the network with the weights in the file that ``weights_of`` names, and what its card says.

        Raises ``CheckpointError`` when the weights are not those that the card was written for.
        """
        path = weights_of(self)
        network = self._built()
        card = read_card(path) or {}
        load_into(network, read_state(path), source=str(path))
        if self.recipe.mean is not None and self.recipe.std is not None:
            network = Normalized(network, self.recipe.mean, self.recipe.std)
        training: dict[str, Any] = {
            name: card[name] for name in ("wrong_labels", "memorisation", "passes", "leak") if name in card
        }
        return Loaded(network, file_sha256(path), training or None)

    def untrained(self) -> Loaded:
        """Return the network before training and without normalisation."""
        return Loaded(self._built(), "untrained")

    def _built(self) -> nn.Module:
        channels, _, _ = self.examples.shape
        return self.recipe.architecture.network(channels=channels, classes=self.classes)


WeightsOf = Callable[[RecipeModel], Path]
"""Names the file of a recipe's weights, trained first if there is none."""


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
    shape: tuple[int, ...] = ()
    """Of the images that it was tried on."""
    answers: Tensor | None = field(default=None, repr=False, compare=False)
    """Its logits for a few fixed images of that shape; ``None`` where they depend on draws."""
    outputs: str | None = None
    """What it returns, in words, where that is not logits."""
    made_of: dict[str, Any] | None = field(default=None, repr=False)
    """What :func:`own_model` made it of: another process does so again, as its code may be in a file that is no module.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        if self.made_of is not None:
            return _made_again, (self.made_of, self.identity.get(ANSWERS))
        return _as_it_is, ({f.name: getattr(self, f.name) for f in fields(self)},)

    def told_apart(self, word: str) -> OwnModel:
        """Return the model with an identity that says which of several sets of answers it gives."""
        return replace(self, identity={**self.identity, ANSWERS: word})

    @property
    def labels(self) -> dict[str, Any]:
        """Architecture, regularizer and training seed, the latter two as far as its card tells."""
        return {"arch": self.arch, "regularizer": self.regularizer, "train_seed": self.train_seed}

    @property
    def stochastic(self) -> bool:
        """Whether the network's output depends on draws, declared or not."""
        return isinstance(self.network, StochasticModule) and self.network.stochastic

    @property
    def black_box(self) -> bool:
        """Whether it answers and has no gradient."""
        return black_box(self.network)

    @property
    def structure(self) -> dict[str, Any]:
        """The file: of another one nothing is known."""
        return self.identity

    def load(self, weights_of: WeightsOf) -> Loaded:
        """Return the network, which has its weights already."""
        return Loaded(self.network, self.weights_sha256, outputs=self.outputs)

    def untrained(self) -> Loaded:
        """Return the network itself: to be had at no cost."""
        return Loaded(self.network, self.weights_sha256, outputs=self.outputs)


def own_model(
    *,
    checkpoint: Path | None,
    architecture: str | dict[str, Any] | None,
    name: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    examples: Examples,
    seed: int | None = None,
    weights: str | None = None,
    download: bool = False,
) -> OwnModel:
    """Load a model of the user's and try it on an image; raises ``RobustEvalError`` when anything does not fit."""
    recipe = recipe_on_card(checkpoint, "architecture", "regularizer", "seed")
    if architecture is None and not recipe:
        if checkpoint is not None and (lies := what_is(checkpoint)) == "none":
            raise CheckpointError(f"{shown_path(checkpoint)}: expected the file of a checkpoint, got {lies}")
        raise ConfigError(
            "model: expected an architecture (--arch NAME or --arch file.py:factory), got none; "
            "only a checkpoint with a card beside it can do without"
        )
    made = load_network(
        checkpoint,
        architecture,
        mean,
        std,
        recipe=recipe,
        examples=examples,
        seed=seed,
        weights=weights,
        download=download,
    )
    arch, shown = made.arch, examples[slice(PROBES)].pixels()
    network = as_logits(made.network, shown, classes=examples.classes)
    classes = tried_on(network, examples, arch)  # first, since lazy layers have no weights before
    compare_classes(arch, classes, made.class_names or class_names(checkpoint, made.network), examples)
    sha256 = made.weights_sha256 or (
        file_sha256(checkpoint) if checkpoint is not None else state_sha256(network)
    )
    if entry_of(architecture) is not None:
        log.warning("model %s: weights with sha256 %s", arch, sha256)
    outputs = outputs_in_words(network, shown)
    if not declares_draws(network) and draws_by_nature(watched(network), examples):
        network = GlobalDraws(network)
    drawn = isinstance(network, StochasticModule) and network.stochastic
    usual = recipe["regularizer"]["name"] if recipe else checkpoint.stem if checkpoint else short_name(arch)
    called = printable(name or usual)
    say_outputs(called, network, outputs)
    return OwnModel(
        name=called,
        network=network,
        arch=arch,
        identity={**made.identity(sha256), **read_identity(network)},
        weights_sha256=sha256,
        regularizer=recipe["regularizer"]["name"] if recipe else "unknown" if seed is None else "untrained",
        train_seed=recipe["seed"] if recipe else None,
        classes=classes,
        shape=examples.shape,
        answers=None if drawn else answers(network, examples.shape),
        outputs=outputs,
        made_of={
            "checkpoint": checkpoint,
            "architecture": architecture,
            "name": name,
            "mean": mean,
            "std": std,
            "examples": examples,
            "seed": seed,
            "weights": weights,
            "download": download,
        },
    )


def _made_again(parts: dict[str, Any], word: str | None = None) -> OwnModel:
    model = own_model(**parts)
    return model if word is None else model.told_apart(word)


def _as_it_is(parts: dict[str, Any]) -> OwnModel:
    return OwnModel(**parts)
