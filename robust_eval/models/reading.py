"""How a network's answer is read as logits [n,classes], found out once, at the door, on a few images.

- A tuple or a list: the first float [n,k] in it, or the only one with as many columns as the data have classes, as of
  ``(logits, features)``. A dict: what stands under ``logits`` or a similar word, else the only float [n,k]. Anything
  with ``.logits``, as the outputs of transformers have.
- One number an image, [n] or [n,1]: the classes 0 and 1. Where it never leaves [0, 1], on images and on noise, it is a
  sigmoid's, class 1 from 0.5 on, and read as the two logits ``(0, z)`` of the logit ``z`` that it was taken of, or
  ``log p - log (1 - p)`` where that is not seen; otherwise it is ``z``. The margin is ``±z`` in both cases.
- A network for batches of one size alone is asked in batches of that size, the last one filled up with copies.

Logits, log-probabilities (which are logits) and probabilities (attacks see through the softmax, :mod:`robust_eval.\
adaptive.links`) need no reading: such a network is left as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robust_eval.adaptive.links import inverted, link_of
from robust_eval.adaptive.straight_through import StraightThrough
from robust_eval.classifier import frozen
from robust_eval.errors import THEIRS
from robust_eval.models.function import find_out
from robust_eval.rng import Rng
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import Images, StochasticModule

__all__ = [
    "Read",
    "Reading",
    "as_logits",
    "declares_draws",
    "described",
    "outputs_in_words",
    "read_identity",
    "say_outputs",
    "watched",
]

log = logging.getLogger(__name__)

NAMES = (
    "logits",
    "logit",
    "output",
    "outputs",
    "out",
    "prediction",
    "predictions",
    "pred",
    "preds",
    "scores",
)
"""Under which a dict holds its logits, the likeliest first."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 5, 6, 7, 9, 10, 12, 20, 24, 25, 40, 48, 50, 96, 100, 200, 250, 512)
"""Batches that a network is tried with which does not take three images."""
FEW = 3
"""Images that a network is asked about first: a number that no batch of a fixed size has."""
NOISE = 16
"""Images of noise that tell a sigmoid from a logit."""


class Reading(NamedTuple):
    """Where in an answer the logits are, and what they are made of."""

    item: str | int | None = None
    """The key or position of the answer; ``.logits`` for an attribute."""
    single: str | None = None
    """What the only number of an image is: ``sigmoid`` or ``logit``."""
    batch: int | None = None
    """The number of images that the network takes at a time."""

    @property
    def words(self) -> str:
        """What was read, for people."""
        parts = []
        if self.item is not None:
            parts.append(f"{self.item if self.item == '.logits' else repr(self.item)} of its answer")
        if self.single is not None:
            what = "one sigmoid" if self.single == "sigmoid" else "one logit"
            parts.append(f"{what}, read as the two classes 0 and 1")
        if self.batch is not None:
            parts.append(f"asked in batches of {self.batch}")
        return ", ".join(parts)


class Read(StochasticModule):
    """A network whose answer is read as logits; stochastic if the network is."""

    def __init__(self, network: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.network = network
        self.reading = reading
        self.stochastic = isinstance(network, StochasticModule) and network.stochastic
        if isinstance(network, StochasticModule):
            self.copies, self.evaluations = network.copies, network.evaluations
        self.training = getattr(network, "training", False)

    def redraw(self, rng: Rng) -> None:
        """Fix the draws of the network, if it has any."""
        if isinstance(self.network, StochasticModule):
            self.network.redraw(rng)

    @property
    def traceable(self) -> bool:
        """Whether a trace of its operations would keep its values and gradient."""
        return self.reading.single != "sigmoid" and self.reading.batch is None

    def forward(self, x: Images) -> Any:
        """Return logits [n,k], or what is none as it is."""
        if self.reading.batch is None:
            return self._logits(x)
        size, n = self.reading.batch, len(x)
        missing = -n % size if n else size
        last = x[-1:] if n else x.new_zeros(1, *x.shape[1:])
        whole = torch.cat([x, last.expand(missing, *x.shape[1:])]) if missing else x
        return torch.cat([self._logits(part) for part in torch.split(whole, size)])[:n]

    def _logits(self, x: Images) -> Any:
        if self.reading.single is None:
            return picked(self.network(x), self.reading.item)
        mode = StraightThrough(watches=True)
        with mode:
            out = picked(self.network(x), self.reading.item).flatten()
        z = out if self.reading.single == "logit" else _logit_of(out, mode)
        return torch.stack([torch.zeros_like(z), z], 1)


def _logit_of(p: Tensor, mode: StraightThrough) -> Tensor:
    """Return what a sigmoid was taken of: as it was seen, since what has rounded to 0 or 1 keeps no logit."""
    seen = mode.last("sigmoid")
    if seen is not None and torch.equal(seen[0].flatten(), p):
        return seen[1].flatten()
    return inverted(p[:, None], "sigmoid")[:, 0]


def picked(answer: Any, item: str | int | None) -> Any:
    """Return the part of an answer that a reading names."""
    if item is None:
        return answer
    return answer.logits if item == ".logits" else answer[item]


def as_logits(network: nn.Module, x: Images, *, classes: int) -> nn.Module:
    """Return the network, read as logits where it answers in another form.

    ``x`` are a few of the images, at least one, of data with so many classes. What cannot be read stays as it is: who
    tries it says what is wrong.
    """
    tensors = (t for t in (*network.parameters(), *network.buffers()) if not nn.parameter.is_lazy(t))
    if any(tensor.is_inference() for tensor in tensors):
        return network
    with surroundings_kept(), frozen(network), torch.no_grad():
        try:
            find_out(network, x[:2])
            reading = _reading(network, x, classes)
        except THEIRS:  # it takes no images like these, in a batch of any size
            return network
    return network if reading in (None, Reading()) else Read(network, reading)


def outputs_in_words(network: nn.Module, x: Images) -> str | None:
    """Return what a network that is read as logits returns, in words; ``None`` for plain logits."""
    if isinstance(network, Read):
        return network.reading.words
    if isinstance(network, StochasticModule) and network.stochastic:
        return None
    try:
        with surroundings_kept(), frozen(network), torch.no_grad():
            out = network(x.clone()).double()
    except THEIRS:
        return None
    link = link_of(out)
    if link == "softmax":
        return "probabilities"
    if link == "sigmoid":
        return "a sigmoid for each class"
    normal = bool((out <= 0).all()) and bool((out.logsumexp(1).abs() < 1e-4).all())
    return "log-probabilities" if normal else None


def say_outputs(name: str, network: nn.Module, outputs: str | None) -> None:
    """Say what was read, where it is not logits."""
    if outputs is not None:
        log.log(logging.WARNING if read_identity(network) else logging.INFO, "model %s: %s", name, outputs)


def watched(network: nn.Module) -> nn.Module:
    """Return the network with answers as they come, in which nothing but its own code runs."""
    if not isinstance(network, Read):
        return network
    return Read(network.network, network.reading._replace(single=None))


def declares_draws(network: nn.Module) -> bool:
    """Whether a network has said whether it is stochastic; one that is read has not by that."""
    return isinstance(network, StochasticModule) and (not isinstance(network, Read) or network.stochastic)


def read_identity(network: nn.Module) -> dict[str, Any]:
    """Return the part of an identity that says how answers are read: nothing where they are taken as they are."""
    inner = getattr(network, "network", None)
    read = network if isinstance(network, Read) else inner
    return {"outputs": read.reading._asdict()} if isinstance(read, Read) else {}


def described(answer: object) -> str:
    """Return what an answer is that cannot be read."""
    kind = type(answer).__name__
    if isinstance(answer, Mapping):
        keys = ", ".join(map(repr, list(answer)[:6]))
        return f"a {kind} of {keys}; name the logits 'logits', or return them alone"
    return kind


def _reading(network: nn.Module, x: Images, classes: int) -> Reading | None:
    batch, few = None, _repeated(x, FEW)
    # a service is not asked in vain again and again
    if not getattr(network, "retries", 0) and not _answers(network, few):
        batch = _size_for(network, x)
        few = few if batch is None else _repeated(x, batch)
    answer = _ask(network, few)
    item = _item(answer, len(few), classes)
    part = picked(answer, item)
    if not isinstance(part, Tensor):
        return None
    if not part.is_floating_point() or part.numel() != len(few):
        return Reading(item, None, batch)
    return Reading(item, _single(Read(network, Reading(item, None, batch)), x), batch)


def _ask(network: nn.Module, x: Images) -> Any:
    if isinstance(network, StochasticModule):
        network.redraw(Rng(0).for_batch(len(x)))
    return network(x.clone())  # which may write into what it is given


def _repeated(x: Images, size: int) -> Tensor:
    return x[torch.arange(size, device=x.device) % len(x)]


def _size_for(network: nn.Module, x: Images) -> int | None:
    """Return a number of images that the network answers; ``None`` where there is none among the usual ones."""
    return next((size for size in SIZES if _answers(network, _repeated(x, size))), None)


def _answers(network: nn.Module, x: Images) -> bool:
    """Whether a network gives one answer for each of these images."""
    try:
        answer = _ask(network, x)
    except THEIRS:
        return False
    part = picked(answer, _item(answer, len(x), 0))
    # what is no tensor is not for the number of images
    return not isinstance(part, Tensor) or (part.ndim > 0 and len(part) == len(x))


def _item(answer: Any, n: int, classes: int) -> str | int | None:
    """Return where in an answer to ``n`` images the logits are."""

    def may_be(part: Any) -> bool:
        return (
            isinstance(part, Tensor) and part.is_floating_point() and part.ndim in (1, 2) and len(part) == n
        )

    if isinstance(answer, Tensor):
        return None
    if may_be(getattr(answer, "logits", None)):
        return ".logits"
    if isinstance(answer, Mapping):
        places = [key for key in answer if may_be(answer[key])]
        known = [name for name in NAMES if name in places]
        return known[0] if known else places[0] if len(places) == 1 else None
    if isinstance(answer, list | tuple):
        found = [place for place, part in enumerate(answer) if may_be(part)]
        fitting = [place for place in found if answer[place].ndim == 2 and answer[place].shape[1] == classes]
        return fitting[0] if len(fitting) == 1 else found[0] if found else None
    return None


def _single(network: Read, x: Images) -> str:
    """Return what the only number of each image is, by images, noise, black and white."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(NOISE, *x.shape[1:], generator=generator).to(x)
    points = torch.cat([x, noise, torch.zeros_like(x[:1]), torch.ones_like(x[:1])])
    out = _ask(network, points)
    return "sigmoid" if bool(((out >= 0) & (out <= 1)).all()) else "logit"
