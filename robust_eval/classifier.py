"""What an attack sees of a model: logits and input gradients for images in [0, 1], with everything else held still.

The classifier owns the switches. While it is in use the network is in eval mode and its weights need no
gradient (``frozen``); both are restored module by module afterwards. Batches are split to a size that fits
memory, and each row's forward and backward passes are counted in a :class:`Ledger`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from robust_eval.errors import ConfigError, RobustEvalError
from robust_eval.normalized import Normalized
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, Mask, StochasticModule

__all__ = ["Classifier", "Gradient", "Ledger", "Loss", "frozen", "misclassified"]

Loss = Callable[[Logits, Any], Float[Tensor, " n"]]
"""A loss per example; an attack ascends it."""


class Gradient(NamedTuple):
    """The logits at a batch and the gradient of each example's loss with respect to its pixels.

    Entries that are not finite are zero here: one of them would spoil the point for good. The ledger counts them.
    """

    logits: Logits
    gradient: Images


class Ledger:
    """How many forward and backward passes each row has cost, and how often its gradient was zero or not finite.

    Rows are the example ids that the random stream of a call carries.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(4, 0, dtype=torch.int64)

    def __getitem__(self, name: str) -> Int[Tensor, " rows"]:
        """The counts of ``forwards``, ``backwards``, ``zero_gradients`` or ``bad_gradients``, indexed by row id."""
        return self._counts[self.NAMES.index(name)]

    NAMES = ("forwards", "backwards", "zero_gradients", "bad_gradients")

    def add(self, name: str, rows: Int[Tensor, " n"], amount: int | Tensor = 1) -> None:
        """Add ``amount`` to the count of each of these rows."""
        rows = rows.cpu()
        missing = int(rows.max()) + 1 - self._counts.shape[1] if len(rows) else 0
        if missing > 0:
            self._counts = torch.cat([self._counts, torch.zeros(4, missing, dtype=torch.int64)], 1)
        self._counts[self.NAMES.index(name), rows] += amount

    def padded(self, name: str, n: int) -> Int[Tensor, " n"]:
        """The counts of rows 0..n-1, zero for rows that were never seen."""
        counts = self[name][:n]
        return torch.cat([counts, counts.new_zeros(n - len(counts))])


class Classifier:
    """A network seen as a function from images in [0, 1] to logits.

    ``mean`` and ``std`` (one number per channel) are put inside the model, so that every perturbation is
    measured in pixels. ``batch_size`` bounds memory and changes results by rounding at most. A *stochastic*
    network draws anew at every call, from the ``rng`` given to that call.

    With ``stop_when_fooled=False`` an attack inside a ball takes every step and keeps its last point: what fools
    another model, by transfer, lies well beyond the first point that fools this one.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        batch_size: int = 128,
        stop_when_fooled: bool = True,
    ) -> None:
        if (mean is None) != (std is None):
            raise ValueError(f"expected mean and std together, got mean={mean!r} and std={std!r}")
        if mean is not None and isinstance(network, StochasticModule):
            raise ConfigError(
                "normalisation: expected it inside a stochastic network, which mixes pixels in [0, 1], got mean and "
                "std around it; give Normalized(network, mean, std) to the defense"
            )
        self.network = network if mean is None or std is None else Normalized(network, mean, std)
        self.batch_size = batch_size
        self.ledger = Ledger()
        self._stop_when_fooled = stop_when_fooled
        self._depth = 0

    @property
    def stops_early(self) -> bool:
        """Whether an example leaves an attack at the first point that fools the model."""
        return self._stop_when_fooled and not self.stochastic

    @property
    def stochastic(self) -> bool:
        """Whether the output depends on draws, so that success must be judged over several of them."""
        return isinstance(self.network, StochasticModule) and self.network.stochastic

    @property
    def proposes(self) -> bool:
        """Whether gradients and the logits beside them come in a lower precision than :meth:`logits`."""
        return False

    @property
    def _part_size(self) -> int:
        copies = self.network.copies if isinstance(self.network, StochasticModule) else 1
        return max(1, self.batch_size // copies)

    @contextmanager
    def frozen(self) -> Iterator[Classifier]:
        """Hold the network in eval mode without weight gradients; nested use costs nothing."""
        if self._depth:
            yield self
            return
        self._depth = 1
        try:
            # a GPU's convolutions round to 10 bits by default: fp32 decides here
            with (
                frozen(self.network),
                torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            ):
                yield self
        finally:
            self._depth = 0

    def __call__(self, x: Images) -> Logits:
        """Return the logits of a deterministic network."""
        return self.logits(x)

    def logits(self, x: Images, *, rng: Rng | None = None) -> Logits:
        """Return logits [n,k] without a graph. A stochastic network needs ``rng``: its draws are made for this call."""
        with self.frozen(), torch.no_grad():
            return torch.cat([self._forward(part, rows) for part, rows in self._parts(x, rng)])

    def input_gradient(
        self, x: Images, y: Int[Tensor, "n ..."], loss: Loss, *, rng: Rng | None = None
    ) -> Gradient:
        """Return the logits and the gradient of ``loss(logits, y)`` [n] with respect to ``x`` [n,c,h,w].

        Both in the precision of the classifier: logits that decide come from :meth:`logits`. ``y`` is whatever the
        loss looks up per example: labels [n], or pairs [n,2] of label and target.
        """
        logits, gradients = [], []
        labels = iter(torch.split(y, self._part_size))
        with self.frozen(), torch.enable_grad():
            for part, rows in self._parts(x, rng):
                leaf = part.requires_grad_()
                out = self._forward(leaf, rows)
                (gradient,) = torch.autograd.grad(loss(out, next(labels)).sum(), leaf)
                logits.append(out.detach())
                gradients.append(self._counted(gradient, rows))
        return Gradient(torch.cat(logits), torch.cat(gradients))

    def jacobian(
        self, x: Images, classes: Int[Tensor, "n m"], *, rng: Rng | None = None
    ) -> tuple[Logits, Float[Tensor, "n m c h w"]]:
        """Return the logits and the gradient of each example's logits of ``classes`` with respect to its pixels."""
        logits, jacobians = [], []
        chosen = iter(torch.split(classes, self._part_size))
        with self.frozen(), torch.enable_grad():
            for part, rows in self._parts(x, rng):
                leaf = part.requires_grad_()
                out = self._forward(leaf, rows)
                picked = out.gather(1, next(chosen)).sum(0)
                gradients = []
                for i, value in enumerate(picked):
                    (gradient,) = torch.autograd.grad(value, leaf, retain_graph=i + 1 < len(picked))
                    gradients.append(self._counted(gradient, rows))
                logits.append(out.detach())
                jacobians.append(torch.stack(gradients, 1))
        return torch.cat(logits), torch.cat(jacobians)

    def _parts(self, x: Images, rng: Rng | None) -> Iterator[tuple[Images, Rng | None]]:
        rng = rng.for_batch(len(x)) if rng is not None else None
        size = self._part_size
        # an empty batch is one empty part: the network knows how many classes its logits have
        for start in range(0, max(len(x), 1), size):
            part = slice(start, start + size)
            yield x[part].detach(), rng.select(part) if rng is not None else None

    def _forward(self, x: Images, rng: Rng | None) -> Logits:
        if isinstance(self.network, StochasticModule) and self.network.stochastic:
            if rng is None:
                raise ValueError("this network is stochastic: expected rng=Rng(seed) for its draws, got none")
            self.network.redraw(rng)
        logits: Logits = self.network(x)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        if rng is not None and rng.index is not None:
            self.ledger.add("forwards", rng.index)
        if x.requires_grad and not logits.requires_grad:
            raise RobustEvalError(
                "expected a model that autograd can differentiate, got one whose output is cut off from its input; "
                "look for no_grad, detach or numpy in its forward"
            )
        return logits

    def _counted(self, gradient: Images, rng: Rng | None) -> Images:
        if rng is not None and rng.index is not None:
            flat = gradient.flatten(1)
            self.ledger.add("backwards", rng.index)
            self.ledger.add("zero_gradients", rng.index, (flat == 0).all(1).long().cpu())
            self.ledger.add("bad_gradients", rng.index, (~flat.isfinite()).any(1).long().cpu())
        return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def misclassified(logits: Logits, y: Labels) -> Mask:
    """Return where the label is not predicted; an output with NaN or infinity on top predicts nothing."""
    return (logits.argmax(1) != y) | ~logits.amax(1).isfinite()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode with weights that need no gradient; restore each module and weight on leaving."""
    modes = [(module, module.training) for module in network.modules()]
    needs = [(weight, weight.requires_grad) for weight in network.parameters()]
    try:
        network.eval()
        for weight, _ in needs:
            weight.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, need in needs:
            weight.requires_grad_(need)
