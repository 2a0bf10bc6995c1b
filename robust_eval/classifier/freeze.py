"""A network held still."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["frozen", "to_eval"]

log = logging.getLogger(__name__)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode with weights that need no gradient; restore each module and weight on leaving."""
    # what torch.jit.freeze returns has no mode: it is that of an evaluation for good
    modes = [(module, module.training) for module in network.modules() if hasattr(module, "training")]
    # lazy ones are no weights yet: they become such when an image comes
    weights = [weight for weight in network.parameters() if not nn.parameter.is_lazy(weight)]
    needs = [(weight, weight.requires_grad) for weight in weights]
    try:
        to_eval(network)
        for weight, _ in needs:
            weight.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, need in needs:
            weight.requires_grad_(need)


def to_eval(network: nn.Module) -> nn.Module:
    """Return the network, in eval mode.

    A ``train()`` that trains, or that is no function at all, is never called: the modes are set module by module.
    """
    modules = list(network.modules())
    odd = [module for module in modules if not _switches(module)]
    if not odd:
        return network.eval()
    for name in {type(module).__name__ for module in odd if hasattr(module, "training")}:
        log.info("%s: its train() or eval() is no switch: the mode is set without it", name)
    for module in modules:
        if hasattr(module, "training"):
            module.training = False
    return network


def _switches(module: nn.Module) -> bool:
    """Whether ``eval()`` and ``train(False)`` do what torch says they do."""
    if not hasattr(module, "training"):
        return False
    own = vars(module)
    if "train" in own or "eval" in own:
        return callable(module.train) and callable(module.eval) and _is_switch(module.train)
    return _is_switch_of(type(module))  # type: ignore[arg-type]


@functools.cache
def _is_switch_of(kind: type[nn.Module]) -> bool:
    train: Any = kind.train
    evaluate: Any = kind.eval
    if train is nn.Module.train and evaluate is nn.Module.eval:
        return True
    if not (callable(train) and callable(evaluate)):
        return False
    return _is_switch(functools.partial(train, None)) and _takes_nothing(functools.partial(evaluate, None))


def _is_switch(train: Callable[..., Any]) -> bool:
    """Whether a ``train`` takes one argument for the mode, which is on by default."""
    try:
        first, *others = inspect.signature(train).parameters.values()
    except (ValueError, TypeError):
        return False
    if any(other.default is other.empty and other.kind not in _ANY_NUMBER for other in others):
        return False
    return first.kind in _ANY_NUMBER or first.name == "mode" or first.default is True


_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _takes_nothing(evaluate: Callable[..., Any]) -> bool:
    try:
        inspect.signature(evaluate).bind()
    except (ValueError, TypeError):
        return False
    return True
