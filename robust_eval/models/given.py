"""A model that was handed over in Python: a network, a classifier, or a function from images to logits."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from robust_eval.adaptive.randomness import GlobalDraws
from robust_eval.classifier import Classifier
from robust_eval.classifier.given import device_of, network_given
from robust_eval.classifier.normalized import Numbers
from robust_eval.data import Examples
from robust_eval.errors import ConfigError
from robust_eval.models.answers import answers
from robust_eval.models.checkpoint import state_sha256
from robust_eval.models.function import Function
from robust_eval.models.reading import (
    as_logits,
    declares_draws,
    outputs_in_words,
    read_identity,
    say_outputs,
    watched,
)
from robust_eval.models.source import OwnModel
from robust_eval.models.trying import draws_by_nature, tried_on
from robust_eval.printable import printable
from robust_eval.types import StochasticModule

if TYPE_CHECKING:
    GivenModel = nn.Module | Classifier | Callable[..., Any]
else:  # what is none is told in words of ours, not of whoever checks types at run time
    GivenModel = Any

__all__ = ["Function", "GivenModel", "called_after", "given_model"]


def given_model(
    examples: Examples, *, model: GivenModel, name: str, mean: Numbers | None, std: Numbers | None
) -> OwnModel:
    """Return a model as cells know one, tried on an image; raises ``RobustEvalError`` when anything does not fit."""
    network = _network(model, mean, std)
    arch = called_after(model)
    device = device_of(network)
    few = examples[slice(16)]
    if device is not None and device.type != "cpu":
        few = Examples(few.images.to(device), few.labels.to(device), few.classes, few.source)  # type: ignore[union-attr]
    shown = few.pixels()
    network = as_logits(network, shown, classes=examples.classes)
    classes = tried_on(network, few, arch)  # first, since lazy layers have no weights before
    weights = state_sha256(network)
    outputs = outputs_in_words(network, shown)
    if not declares_draws(network) and draws_by_nature(watched(network), few):
        network = GlobalDraws(network)
    drawn = isinstance(network, StochasticModule) and network.stochastic
    say_outputs(printable(name), network, outputs)
    return OwnModel(
        name=printable(name),
        network=network,
        arch=arch,
        identity={
            "weights": weights,
            "architecture": {"given": arch, "code": _code(model)},
            **read_identity(network),
        },
        weights_sha256=weights,
        classes=classes,
        shape=examples.shape,
        answers=None if drawn else answers(network, examples.shape, device),
        outputs=outputs,
    )


def called_after(model: GivenModel) -> str:
    """Return what a model without a name is called: its class, or the name of its function."""
    if isinstance(model, Classifier):
        return called_after(model.network)
    if isinstance(model, Function):
        return model.called
    if isinstance(model, nn.Module) or not hasattr(model, "__name__"):
        return type(model).__name__
    return str(model.__name__)


def _network(model: GivenModel, mean: Numbers | None, std: Numbers | None) -> nn.Module:
    if isinstance(model, Classifier):
        if mean is not None or std is not None:
            raise ConfigError(
                "mean and std: expected them in the Classifier, got them beside it; leave them out, or give the network"
            )
        return model.network
    if isinstance(model, nn.Module) or inspect.isclass(model) or not callable(model):
        return network_given(cast("nn.Module", model), mean, std)
    return network_given(Function(model), mean, std)


def _code(model: GivenModel) -> str:
    """Return the sha256 of what a model does beside its weights, as far as that can be read."""
    if isinstance(model, Classifier):
        model = model.network
    if isinstance(model, Function):
        model = model.function
    if isinstance(model, nn.Module):
        classes = dict.fromkeys(type(module) for module in model.modules())
        texts = [repr(model), *map(_source, classes)]
    else:
        texts = [_source(model)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _source(thing: object) -> str:
    try:
        return inspect.getsource(thing)  # type: ignore[arg-type]
    except (OSError, TypeError):  # typed into an interpreter, or not written in Python
        code = getattr(getattr(thing, "__code__", None), "co_code", b"").hex()
        return f"{getattr(thing, '__qualname__', type(thing).__qualname__)} {code}"
