"""Carry a gradient through steps that have none, without a change of what the network computes.

Backward-pass differentiable approximation by the identity (Athalye, Carlini and Wagner 2018, arXiv 1802.00420, section
4.1): inside :class:`StraightThrough`, rounding, signs, casts to integers and cuts (``detach``, ``data``, ``no_grad``)
keep their value, and the gradient passes through them as if they were not there.

Probabilities that have saturated keep no gradient at all, so the logits before a softmax can be asked for.

What is not met: ``inference_mode``, comparisons, ``argmax``, numpy inside the forward, and functions that write their
own backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["StraightThrough"]

_STEPS = ("round", "floor", "ceil", "trunc", "fix", "sign", "sgn")
FLAT: frozenset[Callable[..., Any]] = frozenset(
    getattr(owner, name) for name in _STEPS for owner in (torch, Tensor)
)
"""Functions whose derivative is zero wherever there is one."""
FLAT_IN_PLACE: frozenset[Callable[..., Any]] = frozenset(getattr(Tensor, f"{name}_") for name in _STEPS)
CASTS: frozenset[Callable[..., Any]] = frozenset(
    getattr(Tensor, name) for name in ("to", "type", "byte", "char", "short", "int", "long")
)
DATA: Any = Tensor.data
CUTS: frozenset[Callable[..., Any]] = frozenset((torch.detach, Tensor.detach, DATA.__get__))
SOFTMAX: frozenset[Callable[..., Any]] = frozenset(
    (torch.softmax, Tensor.softmax, torch.nn.functional.softmax, torch.special.softmax)
)
SWITCH: Callable[..., Any] = torch._C._set_grad_enabled


class StraightThrough(TorchFunctionMode):
    """Context in which torch's step functions let gradients through; one that only ``watches`` changes nothing."""

    def __init__(self, *, watches: bool = False) -> None:
        super().__init__()
        self._watches = watches
        self._softmax: tuple[Tensor, Tensor] | None = None

    def before_softmax(self, out: Tensor) -> Tensor | None:
        """Return what the last softmax was taken of, if ``out`` is what it gave."""
        return self._softmax[1] if self._softmax is not None and self._softmax[0] is out else None

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a torch function; the mode itself is off in here."""
        kwargs = kwargs or {}
        if function is SWITCH and not self._watches and not args[0]:  # no_grad: gradients stay as they are
            return None
        x = args[0] if args else None
        if function in SOFTMAX and isinstance(x, Tensor):
            self._softmax = (function(*args, **kwargs), x)
            return self._softmax[0]
        if self._watches:
            return function(*args, **kwargs)
        if not (isinstance(x, Tensor) and x.requires_grad and x.is_floating_point()):
            return function(*args, **kwargs)
        if function in CUTS and not isinstance(x, torch.nn.Parameter):
            return x
        if function in FLAT_IN_PLACE:
            with torch.no_grad():
                moved = function(x.clone(), *args[1:], **kwargs) - x
            return x.add_(moved)
        out = function(*args, **kwargs)
        if function in FLAT or (
            function in CASTS and isinstance(out, Tensor) and not out.is_floating_point()
        ):
            with torch.no_grad():
                moved = out.to(x.dtype) - x
            return x + moved
        return out
