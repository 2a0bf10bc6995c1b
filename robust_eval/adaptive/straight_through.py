"""Carry a gradient through steps that have none, without a change of what the network computes.

Backward-pass differentiable approximation by the identity (Athalye, Carlini and Wagner 2018, arXiv 1802.00420, section
4.1): inside :class:`StraightThrough`, rounding, signs, casts to integers and cuts (``detach``, ``data``, ``no_grad``,
``inference_mode``) keep their value, and the gradient passes through them as if they were not there.

Where asked to (``saturations``), what saturates pixels passes as well: clamps and ReLUs of a tensor that has the shape
of the images, as one in front of a network has.

Probabilities that have saturated keep no gradient at all, so the logits before a softmax or sigmoid can be asked for.

What is not met: comparisons, ``argmax``, numpy inside the forward, and functions that write their
own backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from robust_eval.adaptive.links import Link

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
SIGMOID: frozenset[Callable[..., Any]] = frozenset((torch.sigmoid, Tensor.sigmoid, torch.special.expit))
_CLIPS = ("clamp", "clip", "clamp_min", "clamp_max", "relu")
_functional = torch.nn.functional
SATURATES: frozenset[Callable[..., Any]] = frozenset(
    (
        *(getattr(owner, name) for name in _CLIPS for owner in (torch, Tensor)),
        *(_functional.relu, _functional.relu6, _functional.hardtanh, _functional.hardsigmoid),
    )
)
SATURATES_IN_PLACE: frozenset[Callable[..., Any]] = frozenset(getattr(Tensor, f"{name}_") for name in _CLIPS)
SWITCH: Callable[..., Any] = torch._C._set_grad_enabled


class StraightThrough(TorchFunctionMode):
    """Context in which torch's step functions let gradients through; one that only ``watches`` changes nothing.

    With ``saturations``, the shape of the images, clamps of tensors of that shape do as well.
    """

    def __init__(self, *, watches: bool = False, saturations: torch.Size | None = None) -> None:
        super().__init__()
        self._watches = watches
        self._saturations = saturations
        self._last: dict[Link, tuple[Tensor, Tensor]] = {}
        self._inference: AbstractContextManager[None] = nullcontext()

    def before(self, link: Link, out: Tensor) -> Tensor | None:
        """Return what the last softmax or sigmoid was taken of, if ``out`` is what it gave."""
        given, taken = self._last.get(link, (None, None))
        return taken if given is out else None

    def last(self, link: Link) -> tuple[Tensor, Tensor] | None:
        """Return what the last softmax or sigmoid gave and what it was taken of, if there was one."""
        return self._last.get(link)

    def __enter__(self) -> StraightThrough:
        self._inference = nullcontext() if self._watches else _without_inference_mode()
        self._inference.__enter__()
        entered: StraightThrough = super().__enter__()  # type: ignore[no-untyped-call]
        return entered

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._inference.__exit__(*error)

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
        link: Link | None = "softmax" if function in SOFTMAX else "sigmoid" if function in SIGMOID else None
        if link is not None and isinstance(x, Tensor):
            self._last[link] = (function(*args, **kwargs), x)
            return self._last[link][0]
        if self._watches:
            return function(*args, **kwargs)
        if not (isinstance(x, Tensor) and x.requires_grad and x.is_floating_point()):
            return function(*args, **kwargs)
        if function in CUTS and not isinstance(x, torch.nn.Parameter):
            return x
        saturates = x.shape == self._saturations
        if function in FLAT_IN_PLACE or (saturates and function in SATURATES_IN_PLACE):
            with torch.no_grad():
                moved = function(x.clone(), *args[1:], **kwargs) - x
            return x.add_(moved)
        out = function(*args, **kwargs)
        flat = function in FLAT or (saturates and function in SATURATES)
        if flat or (function in CASTS and isinstance(out, Tensor) and not out.is_floating_point()):
            with torch.no_grad():
                moved = out.to(x.dtype) - x
            return x + moved
        return out


@contextmanager
def _without_inference_mode() -> Iterator[None]:
    """Let ``inference_mode`` do nothing: it is entered in C++, where no torch function is called."""
    mode: Any = torch.inference_mode
    enter, leave = mode.__enter__, mode.__exit__
    mode.__enter__, mode.__exit__ = _nothing, _nothing
    try:
        yield
    finally:
        mode.__enter__, mode.__exit__ = enter, leave


def _nothing(*_: object) -> None:
    pass
