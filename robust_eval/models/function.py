"""A function from images to logits, such as a service that is asked over a network, as a network without weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robust_eval.classifier import Classifier
from robust_eval.errors import THEIRS, ConfigError, MeasurementError, NoGradientError, RobustEvalError
from robust_eval.surroundings import surroundings_kept

__all__ = ["Function", "as_network", "find_out", "known_as_black_box"]

log = logging.getLogger(__name__)

BLACK_BOX = (
    "expected an attack without gradients for a black box, which has none: use square, noise, hop_skip_jump, boundary "
    "or transfer:NAME"
)
LONGEST = 60.0
"""Seconds between two tries at most."""


class Function(nn.Module):
    """A function from images [n,c,h,w] in [0, 1] to logits [n,k], as a network without weights.

    Tensors or numpy arrays go in, as it takes them. What comes back as an array has no gradient: the function is a
    *black box*, attacked by its answers alone. So is one whose tensors autograd cannot follow, and one that is said to
    have no ``gradients``.

    ``max_queries`` is the number of images that it may be asked about, over everything that is measured; what would go
    beyond raises ``MeasurementError``. A call that raises is made again up to ``retries`` times, after ``wait`` seconds
    and then twice as long each time. With ``classes`` the function may return the predicted classes [n] alone, which
    are read as one-hot logits. None of these changes a number.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        gradients: bool | None = None,
        max_queries: int | None = None,
        retries: int = 0,
        wait: float = 1.0,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(function, nn.Module) or not callable(function):
            raise ConfigError(f"Function: expected a function from images, got {type(function).__name__}")
        for name, value, least in (
            ("max_queries", max_queries, 1),
            ("retries", retries, 0),
            ("classes", classes, 2),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ConfigError(f"Function: {name}: expected a whole number >= {least}, got {value!r}")
        self.function = function
        self.gradients = gradients
        self.max_queries = max_queries
        self.retries = retries
        self.wait = wait
        self.classes = classes
        self.queries = 0
        """Images that it was asked about."""
        self._arrays: bool | None = None

    @property
    def black_box(self) -> bool:
        """Whether it has no gradient, as far as that is known: :meth:`find_out` asks."""
        return self.gradients is False or self._arrays is True

    @property
    def traceable(self) -> bool:
        """Whether a copy of it can be made from its operations."""
        return not self.black_box and self.max_queries is None and not self.retries

    @property
    def called(self) -> str:
        """The name of the function."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def find_out(self, x: Tensor) -> None:
        """Ask about a few images whether there are gradients, unless that was said."""
        if self.gradients is not None:
            return
        if self._arrays is None:
            with torch.no_grad():
                self(x)
        if not self._arrays:
            try:
                with torch.enable_grad():
                    answer = self(x.detach().clone().requires_grad_())
                self.gradients = not isinstance(answer, Tensor) or answer.requires_grad
            except THEIRS:  # "can't call numpy() on a tensor that requires grad"
                self.gradients = False

    def forward(self, x: Tensor) -> Any:
        """Return what the function answers."""
        if self.black_box and x.requires_grad and torch.is_grad_enabled():
            raise NoGradientError(BLACK_BOX)
        if self.max_queries is not None and self.queries + len(x) > self.max_queries:
            raise MeasurementError(
                f"{self.called}: its {self.max_queries:,} queries are used up ({self.queries:,} asked, {len(x):,} more "
                "wanted); raise max_queries, or take fewer images, attacks or queries of each"
            )
        self.queries += len(x)
        found = self._tried_again(x)
        if isinstance(found, np.ndarray | list | tuple | np.generic) and not _holds_tensors(found):
            found = torch.as_tensor(np.asarray(found)).to(x.device)
        if isinstance(found, Tensor) and not found.is_floating_point() and found.ndim == 1:
            if self.classes is None:
                raise ConfigError(
                    f"{self.called}: expected logits [n,classes], got classes [n]; give Function({self.called}, "
                    "classes=K) with the number of classes, or return the logits"
                )
            return functional.one_hot(found.long(), self.classes).to(torch.float32)
        return found

    def _tried_again(self, x: Tensor) -> Any:
        """Ask until there is an answer."""
        for tries in range(self.retries + 1):
            try:
                return self._asked(x)
            except RobustEvalError:
                raise
            except THEIRS as error:
                if tries == self.retries:
                    raise
                pause = min(self.wait * 2**tries, LONGEST)
                log.warning("%s raised %r: asked again in %.3g s", self.called, error, pause)
                time.sleep(pause)
        raise AssertionError

    def _asked(self, x: Tensor) -> Any:
        if self._arrays is not None:
            return self.function(x.detach().cpu().numpy() if self._arrays else x)
        try:
            self._arrays, found = False, self.function(x)
        except THEIRS as of_tensors:  # such as "no attribute astype"
            self._arrays = None
            self.queries += len(x)  # it was asked
            try:
                found = self.function(x.detach().cpu().numpy())
            except THEIRS:
                raise of_tensors from None
            self._arrays = True
        # a tensor that is handed to numpy's functions may come back as an array
        self._arrays = self._arrays or isinstance(found, np.ndarray)
        return found


def as_network(model: Any) -> Any:
    """Return a plain function as a network; anything else as it is."""
    return model if isinstance(model, nn.Module | Classifier) else Function(model)


def find_out(network: nn.Module, x: Tensor) -> None:
    """Ask the functions in a network whether they have gradients."""
    for module in network.modules():
        if isinstance(module, Function):
            module.find_out(x)


def known_as_black_box(model: Any, x: Tensor) -> bool:
    """Whether a model is a function without gradients; one that cannot answer is told of when it is tried."""
    if not isinstance(model, Function):
        return False
    try:
        with surroundings_kept():
            model.find_out(x)
    except THEIRS:
        return False
    return model.black_box


def _holds_tensors(found: Any) -> bool:
    return isinstance(found, list | tuple) and any(isinstance(part, Tensor) for part in found)
