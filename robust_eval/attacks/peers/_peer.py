"""What the attacks of other libraries have in common: fields from their signature, a network they can call, our loop.

A peer sees a plain module from [0, 1] images to logits. Its draws from global generators are seeded for the run and put
back, what it does to the module's mode is undone, its passes are counted, and whether a point fools the model is asked
again here. Passes are counted exactly in sum; a peer does not tell which images of a batch it asks about, so where it
asks about more or fewer than it was given they are shared out evenly. Unlike our own attacks, a peer may treat an
example differently in another batch.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from robust_eval.attacks._aim import Aim
from robust_eval.attacks._fields import Steps
from robust_eval.classifier import Classifier
from robust_eval.classifier.dtypes import answered_in
from robust_eval.classifier.masked import Layout
from robust_eval.errors import ConfigError, RobustEvalError
from robust_eval.fields import Whole
from robust_eval.methods import Attack, Passes
from robust_eval.rng import Rng, seeded
from robust_eval.threat import DEFAULT_RADIUS, Ball, Pixels, Threat, parse_number
from robust_eval.types import AttackResult, Images, Labels, StochasticModule

__all__ = ["Call", "Peer", "Theirs", "field_of", "peer_class"]

log = logging.getLogger(__name__)

Number = Annotated[float, BeforeValidator(parse_number), Field(allow_inf_nan=False)]
"""A number of theirs; ``"2/255"`` is accepted."""
Goal = Literal["fixed", "minimal", "unbounded"]
"""Stay within a radius, look for the smallest perturbation, or fool the model by any change of the image."""


class Call(NamedTuple):
    """What a peer is asked to do."""

    network: nn.Module
    x: Images
    y: Labels
    eps: float | None
    norm: Ball
    classes: int
    seed: int


@dataclass(frozen=True)
class Theirs:
    """An attack of another library."""

    library: str
    """Name and version, such as ``foolbox 3.3.4``."""
    name: str
    goal: Goal
    norms: tuple[Ball, ...]
    """Those it can be asked for; the first is its default."""
    fields: tuple[tuple[str, Any, Any], ...]
    """Name, type and default of each parameter; ``dataclasses.MISSING`` where it has none."""
    check: Callable[[Mapping[str, Any], Ball], object]
    """Raises for parameters that it refuses."""
    attack: Callable[[Mapping[str, Any], Call], Tensor]
    """Returns what it makes of a batch."""
    cost: Callable[[Mapping[str, Any], Ball, int], Passes | None]
    """Returns the passes of one call for so many classes; ``None`` where nothing is known."""


class Peer(Attack):
    """An attack of another library, run on demand and measured like our own."""

    masked_as: ClassVar[Layout | None] = None
    theirs: ClassVar[Theirs]
    adapts: ClassVar[bool] = False
    beats_single_step: ClassVar[bool] = False  # no library says which of its attacks go many steps
    unbounded: ClassVar[bool] = False
    """True if it has no radius in our norms: it is scored by whether it fools the model at all."""

    @property
    def threat(self) -> Threat:
        """The ball it is asked to stay in; by linf without a radius where it knows none of our distances."""
        return Threat(self._norm, getattr(self, "eps", None))

    @property
    def _norm(self) -> Ball:
        norm: Ball = getattr(self, "norm", self.theirs.norms[0])
        return norm

    @property
    def _params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name, _, _ in self.theirs.fields}

    def __post_init__(self) -> None:
        name, library = self.theirs.name, getattr(self, "library", self.theirs.library)
        if library != self.theirs.library:
            raise ConfigError(f"attack {name!r}: library: expected {self.theirs.library!r}, the one installed, "
                              f"got {library!r}; install that one, or leave the field out")  # fmt: skip
        try:
            with _quiet():
                self.theirs.check(self._params, self._norm)
        except ConfigError:
            raise
        except ImportError as error:
            raise ConfigError(
                f"attack {name!r}: {library} needs {error.name}, which is not installed; pip install {error.name}"
            ) from None
        except Exception as error:
            raise ConfigError(f"attack {name!r}: {library} refuses these fields: {_reason(error)}") from None

    def run(self, model: Classifier, x: Images, y: Labels, *, rng: Rng) -> AttackResult:
        """Attack a batch [n,c,h,w] in [0, 1] that the model classifies correctly.

        The library does not say at which step an example was fooled: the step is 0 for all that are.
        """
        x_adv, step = x.clone(), torch.full_like(y, -1)
        if self.threat.eps == 0 or not len(x):
            return AttackResult(x_adv, step)
        nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        minimal = self.threat.eps is None
        seen, stuck = _Seen(model, x), _Stuck()
        with model.frozen(), _quiet():
            classes = model.logits(x[:1], rng=rng.child("classes").select(slice(1))).shape[1]
            size = seen.size
            for start in range(0, len(x), size):
                rows = torch.arange(start, min(start + size, len(x)), device=x.device)
                for restart in range(getattr(self, "restarts", 1)):
                    left = rows if minimal else rows[step[rows] < 0]
                    if not len(left):
                        break
                    stream = rng.child("part", start, "restart", restart).select(left)
                    found = self._attempt(seen, x[left], y[left], classes, stream, stuck)
                    fooled = Aim(y[left]).holds(model, found, rng=stream.child("success"))
                    length = self.threat.distance(x[left], found)
                    kept = fooled & (length < nearest[left]) if minimal else torch.ones_like(fooled)
                    x_adv[left[kept]] = found[kept]
                    nearest[left[kept]] = length[kept]
                    step[left[fooled]] = 0
        if stuck.error is not None:
            if len(stuck.rows) == len(x):
                raise self._failed(stuck.error) from stuck.error
            log.warning(
                "%s: %d of %d images gave it no point to start from",
                self.theirs.name,
                len(stuck.rows),
                len(x),
            )
        return AttackResult(x_adv, step)

    def cost(self, classes: int) -> Passes | None:
        """Return the passes of an attack that follows a gradient, counted like ours; of others nothing is known."""
        once = self.theirs.cost(self._params, self._norm, classes)
        return None if once is None else once.times(getattr(self, "restarts", 1))

    def _failed(self, error: Exception) -> RobustEvalError:
        return RobustEvalError(f"{self.theirs.name}: failed inside {self.theirs.library}: {_reason(error)}")

    def _attempt(self, seen: _Seen, x: Images, y: Labels, classes: int, rng: Rng, stuck: _Stuck) -> Images:
        """Return what the library makes of a batch, inside the box; the clean image where it is not finite."""
        call = Call(seen, x, y, self.threat.eps, self._norm, classes, rng.key & 0x7FFFFFFF)
        try:
            with seen.watching(rng), seeded(rng, everywhere=True), torch.enable_grad():
                np.random.seed(call.seed)  # noqa: NPY002 - theirs, as they would seed it
                found = self.theirs.attack(self._params, call).detach().to(x)
        except RobustEvalError:
            raise
        except Exception as error:
            if not _no_start(error):
                raise self._failed(error) from error
            if len(x) == 1:
                assert rng.index is not None
                stuck.error = error
                stuck.rows.add(int(rng.index[0]))
                return x.clone()
            # one image without a starting point must not end the attack on all others
            halves = (slice(0, len(x) // 2), slice(len(x) // 2, len(x)))
            return torch.cat([self._attempt(seen, x[h], y[h], classes, rng.select(h), stuck) for h in halves])
        if found.shape != x.shape:
            raise RobustEvalError(
                f"{self.theirs.name}: expected images of shape {list(x.shape)} from {self.theirs.library}, "
                f"got {list(found.shape)}"
            )
        finite = found.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
        return torch.where(finite, found, x).clamp(0, 1)


@dataclass
class _Stuck:
    """For which images an attack found no point to start from."""

    rows: set[int] = dataclasses.field(default_factory=set)
    error: Exception | None = None


def _no_start(error: Exception) -> bool:
    """Whether one of Foolbox's attacks that walk along the boundary found no way to it for some image."""
    return "init_attack failed" in str(error) or (isinstance(error, AssertionError) and not str(error))


def peer_class(theirs: Theirs) -> type[Peer]:
    """Return a frozen dataclass for an attack of another library: its parameters, and those of our own loop."""
    own: list[tuple[str, Any, Any]] = []
    if theirs.goal == "fixed":
        own.append(("eps", Pixels, dataclasses.field(default=DEFAULT_RADIUS[theirs.norms[0]])))
    if len(theirs.norms) > 1:
        own.append(("norm", Literal[theirs.norms], dataclasses.field(default=theirs.norms[0])))
    own += [(name, kind, dataclasses.field(default=default)) for name, kind, default in theirs.fields]
    if not {"restarts", "n_restarts"} & {name for name, _, _ in own}:
        own.append(("restarts", Steps, dataclasses.field(default=1)))
    own.append(("library", str, dataclasses.field(default=theirs.library)))
    made = dataclasses.make_dataclass(
        theirs.name.replace(":", "_").replace("-", "_"),
        own,
        bases=(Peer,),
        namespace={
            "theirs": theirs,
            "minimal_norm": theirs.goal != "fixed",
            "unbounded": theirs.goal == "unbounded",
            "norms": theirs.norms,
            "gradients": theirs.name.partition(":")[2] not in BLACK_BOX,
            "baseline": "Noise" in theirs.name or theirs.name == "torchattacks:GN",
            "__doc__": f"``{theirs.name.partition(':')[2]}`` of {theirs.library}, measured by our own loop.",
        },
        frozen=True,
        kw_only=True,
    )
    made.__module__ = theirs.name  # its card is its own docstring, not that of a module
    return made


BLACK_BOX = frozenset({
    "BoundaryAttack", "HopSkipJumpAttack", "PointwiseAttack", "SaltAndPepperNoiseAttack", "SpatialAttack",
    "LinearSearchBlendedUniformNoiseAttack", "LinearSearchContrastReductionAttack", "GaussianBlurAttack",
    "BinarySearchContrastReductionAttack", "InversionAttack", "L2ContrastReductionAttack", "Pixle", "OnePixel",
    "SPSA", "Square", "GN", "square",
})  # fmt: skip
"""Attacks of the libraries that see only outputs."""


def field_of(name: str, hint: Any, default: Any) -> tuple[str, Any, Any] | None:
    """Return a field for a parameter of theirs, ``None`` for one that plain data cannot express."""
    kind = _kind(hint)
    if hint is int and isinstance(default, int) and default > 0:
        kind = Steps
    return None if kind is None else (name, kind, default)


def _kind(hint: Any) -> Any:
    if hint is float:
        return Number
    if hint is int:
        return Whole
    if hint in (bool, str, type(None)) or get_origin(hint) is Literal:
        return hint
    if get_origin(hint) is tuple:
        return hint if all(part in (int, float, ...) for part in get_args(hint)) else None
    if get_origin(hint) in (Union, UnionType):
        kinds = [_kind(part) for part in get_args(hint)]
        return None if None in kinds else Union[tuple(kinds)]  # noqa: UP007 - made of a list
    return None


class _Seen(nn.Module):
    """The model as a peer sees it; counts what passes through."""

    def __init__(self, model: Classifier, like: Images) -> None:
        super().__init__()
        # the first parameter says to torchattacks where the model is
        self.place = nn.Parameter(torch.zeros(0, device=like.device), requires_grad=False)
        self.network = model.network
        self._model = model
        self._dtype = like.dtype
        self._rng: Rng | None = None
        self._spent = Counter[str]()
        self.training = False

    @property
    def size(self) -> int:
        """Images at a time."""
        copies = self.network.copies if isinstance(self.network, StochasticModule) else 1
        return max(1, self._model.batch_size // copies)

    def train(self, mode: bool = True) -> _Seen:
        """Change nothing: the mode of the network is ours to choose."""
        return self

    @contextmanager
    def watching(self, rng: Rng) -> Iterator[None]:
        """Count, and draw, for the images of this stream."""
        assert rng.index is not None
        self._rng, self._spent = rng, Counter()
        try:
            yield
        finally:
            self._rng = None
            for name in ("forwards", "backwards"):
                each, rest = divmod(self._spent[name], len(rng.index))
                shares = each + (torch.arange(len(rng.index)) < rest).long()
                self._model.ledger.add(name, rng.index, shares)

    def forward(self, x: Images) -> Tensor:
        """Map images in [0, 1] to logits, in parts that fit the memory."""
        self._spent["calls"] += 1
        self._spent["forwards"] += len(x)
        if x.requires_grad and torch.is_grad_enabled():
            x = x.view_as(x)
            x.register_hook(self._met)  # type: ignore[no-untyped-call]
        x = x.to(self._dtype)
        size = self.size
        parts = [self._answer(x[start : start + size], start) for start in range(0, max(len(x), 1), size)]
        logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        answer: Tensor = answered_in(self._dtype, logits)
        return answer

    def _answer(self, x: Images, start: int) -> Tensor:
        if isinstance(self.network, StochasticModule) and self.network.stochastic:
            assert self._rng is not None and self._rng.index is not None
            # which image a row is, is known only where all are asked about
            places = torch.arange(start, start + len(x)) % len(self._rng.index)
            self.network.redraw(self._rng.child("call", self._spent["calls"], start).select(places))
        logits: Tensor = self.network(x.clone())  # which may write into what it is given
        return logits

    def _met(self, gradient: Tensor) -> None:
        self._spent["backwards"] += len(gradient)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back a library's warnings: what is wrong is measured here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
