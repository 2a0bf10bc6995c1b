"""What an attack sees of a model: logits and input gradients for images in [0, 1], with everything else held still.

The classifier owns the switches. While it is in use the network is in eval mode and its weights need no
gradient (``frozen``); both are restored module by module afterwards. Batches are split to a size that fits
memory, and each row's forward and backward passes are counted in a :class:`Ledger`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from robust_eval.arguments import ImagesLike, RngLike, as_images, as_rng
from robust_eval.classifier.accelerate import Precision, Twins, pick_precision, twins
from robust_eval.classifier.dtypes import answered_in, dtype_of, in_its_dtype
from robust_eval.classifier.freeze import frozen
from robust_eval.classifier.given import Network, black_box, expect_count, network_given, say_if_training
from robust_eval.classifier.ledger import Ledger, Way
from robust_eval.classifier.normalized import Numbers
from robust_eval.classifier.outputs import Gradient, expect_logits
from robust_eval.classifier.passes import (
    CUT_OFF,
    TOGETHER,
    answer,
    columns,
    connected,
    out_of_memory,
    single_use,
)
from robust_eval.errors import THEIRS, NoGradientError
from robust_eval.rng import Rng
from robust_eval.types import Images, Labels, Logits, StochasticModule

__all__ = ["Classifier", "Gradient", "Loss"]

log = logging.getLogger(__name__)

Loss = Callable[[Logits, Any], Float[Tensor, " n"]]
"""A loss per example; an attack ascends it."""


class Classifier:
    """A network seen as a function from images in [0, 1] to logits.

    ``mean`` and ``std`` (one number per channel) are put inside the model, so that every perturbation is
    measured in pixels. ``batch_size`` bounds memory and changes results by rounding at most. A *stochastic*
    network draws anew at every call, from the ``rng`` given to that call.

    Gradients come from a faster twin of the network (:mod:`.accelerate`) in ``precision``; ``accelerate=False`` asks
    the network itself for everything, and ``compiled`` hands the twin to ``torch.compile``.

    With ``stop_when_fooled=False`` an attack inside a ball takes every step and keeps its last point: what fools
    another model, by transfer, lies well beyond the first point that fools this one.

    The network is given images in the dtype of its weights; logits come back in that of the images.

    Where another network ``decides``, the classifier's own gives gradients and the logits beside them alone: they
    propose, as those in a lower precision do.
    """

    def __init__(
        self,
        network: Network,
        *,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        batch_size: int = 128,
        stop_when_fooled: bool = True,
        precision: Precision = "auto",
        accelerate: bool = True,
        compiled: bool = False,
        decides: nn.Module | None = None,
    ) -> None:
        expect_count("batch_size", batch_size)
        self.network = network_given(network, mean, std)
        self._given = network
        self.decides = None if decides is None else in_its_dtype(decides)
        self.batch_size = batch_size
        self.ledger = Ledger()
        self.precision = precision
        self.accelerate = accelerate
        self.compiled = compiled
        self._stop_when_fooled = stop_when_fooled
        self._depth = 0
        self._twins: Twins | None = None
        self._met = False
        self._takes = dtype_of(self.network)
        self.never_alone = self._single_use = False
        pick_precision(precision, torch.device("cpu"))  # an unknown name is told now

    @property
    def stops_early(self) -> bool:
        """Whether an example leaves an attack at the first point that fools the model."""
        return self._stop_when_fooled and not self.stochastic

    @property
    def stochastic(self) -> bool:
        """Whether the output depends on draws, so that success must be judged over several of them."""
        return isinstance(self.network, StochasticModule) and self.network.stochastic

    @property
    def black_box(self) -> bool:
        """Whether the network answers and has no gradient: each question may be somebody's bill."""
        return black_box(self.network)

    @property
    def proposes(self) -> bool:
        """Whether gradients, and the logits beside them, come in a lower precision than :meth:`logits`.

        Known once the network has been asked something.
        """
        return self.decides is not None or (self._twins is not None and self._twins.fast is not None)

    @property
    def slow_because(self) -> str | None:
        """Why the network is asked as it is and not through a faster twin."""
        return None if self._twins is None else self._twins.reason

    def calls(self, draws: int) -> int:
        """Return how many calls make at least so many draws of a stochastic network; one of a deterministic network."""
        return -(-draws // self._evaluations) if self.stochastic else 1

    @property
    def _evaluations(self) -> int:
        return self.network.evaluations if isinstance(self.network, StochasticModule) else 1

    @property
    def _part_size(self) -> int:
        return max(1, self.batch_size // self._copies)

    @property
    def _copies(self) -> int:
        return self.network.copies if isinstance(self.network, StochasticModule) else 1

    @contextmanager
    def frozen(self) -> Iterator[Classifier]:
        """Hold the network in eval mode without weight gradients; nested use costs nothing.

        Its weights must not change meanwhile.
        """
        if self._depth:
            yield self
            return
        self._depth = 1
        say_if_training(self._given)
        try:
            # a GPU's convolutions round to 10 bits by default: fp32 decides here
            with (
                frozen(self.network),
                frozen(self.decides) if self.decides is not None else nullcontext(),
                torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            ):
                yield self
        finally:
            self._depth, self._met = 0, False

    def __call__(self, x: ImagesLike) -> Logits:
        """Return the logits of a deterministic network."""
        return self.logits(x)

    def logits(self, x: ImagesLike, *, rng: RngLike | None = None) -> Logits:
        """Return logits [n,k] without a graph, in the precision of ``x``: these decide.

        A stochastic network needs ``rng``: its draws are made for this call.
        """
        return self._logits(x, rng, fast=False)

    def proposal(self, x: ImagesLike, *, rng: RngLike | None = None) -> Logits:
        """Return logits [n,k] in the precision of the gradients: good for comparing points, not for deciding."""
        return self._logits(x, rng, fast=True)

    def input_gradient(
        self, x: ImagesLike, y: Int[Tensor, "n ..."], loss: Loss, *, rng: RngLike | None = None
    ) -> Gradient:
        """Return the logits and the gradient of ``loss(logits, y)`` [n] with respect to ``x`` [n,c,h,w].

        Both in the precision of the classifier: logits that decide come from :meth:`logits`. ``y`` is whatever the
        loss looks up per example: labels [n], or pairs [n,2] of label and target.
        """
        x = as_images(x)
        with self.frozen(), torch.enable_grad():
            return Gradient(*self._in_parts(x, rng, partial(self._gradient_of, x, y, loss)))

    def jacobian(
        self,
        x: ImagesLike,
        classes: Int[Tensor, "n m"],
        *,
        minus: Labels | None = None,
        rng: RngLike | None = None,
    ) -> tuple[Logits, Float[Tensor, "n m c h w"]]:
        """Return the logits and the gradient of each example's logits of ``classes`` with respect to its pixels.

        With ``minus`` the gradients of those logits less the one of this class [n]. One forward pass and a backward
        pass for each of the m columns; those of few examples are made together, which takes longer for many.
        """
        x = as_images(x)
        with self.frozen(), torch.enable_grad():
            logits, jacobian = self._in_parts(x, rng, partial(self._jacobian_of, x, classes, minus))
        return logits, jacobian

    def _logits(self, x: ImagesLike, rng: RngLike | None, *, fast: bool) -> Logits:
        x = as_images(x)
        with self.frozen(), torch.no_grad():
            return self._in_parts(x, rng, partial(self._logits_of, x, fast))[0]

    # of one part of a batch: methods, as functions made at each call would have their types looked up anew each time

    def _logits_of(self, x: Images, fast: bool, part: slice, rows: Rng | None) -> tuple[Tensor]:
        return (self._forward(x[part].detach(), rows, fast=fast),)

    def _gradient_of(
        self, x: Images, y: Int[Tensor, "n ..."], loss: Loss, part: slice, rows: Rng | None
    ) -> tuple[Tensor, Tensor]:
        leaf = x[part].detach().requires_grad_()
        out = self._forward(leaf, rows, fast=True)
        with connected():
            (gradient,) = torch.autograd.grad(loss(out, y[part]).sum(), leaf)
        return out.detach(), self._counted(gradient, rows)

    def _jacobian_of(
        self, x: Images, classes: Int[Tensor, "n m"], minus: Labels | None, part: slice, rows: Rng | None
    ) -> tuple[Tensor, Tensor]:
        leaf, out, picked = self._picked(x, classes, minus, part, rows)
        # draws that are made anew in the backward pass do not go together
        together = self.proposes and not self.stochastic and len(picked) <= TOGETHER
        gradients: list[Images] = []
        if not self._single_use:
            try:
                gradients = list(columns(picked, leaf, together=together))
            except RuntimeError as error:
                if not single_use(error):
                    raise
                self._single_use = True
        if self._single_use:  # a forward pass for each
            for column in range(picked.shape[1]):
                if column:
                    leaf, _, picked = self._picked(x, classes, minus, part, rows)
                gradients += columns(picked[:, column : column + 1], leaf, together=False)
        return out.detach(), torch.stack([self._counted(gradient, rows) for gradient in gradients], 1)

    def _picked(
        self, x: Images, classes: Int[Tensor, "n m"], minus: Labels | None, part: slice, rows: Rng | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        leaf = x[part].detach().requires_grad_()
        out = self._forward(leaf, rows, fast=True)
        picked = out.gather(1, classes[part])
        return leaf, out, picked if minus is None else picked - out.gather(1, minus[part, None])

    def _in_parts(
        self, x: Images, rng: RngLike | None, ask: Callable[[slice, Rng | None], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Ask about a batch in parts that fit the memory; where one does not, the parts are halved from then on."""
        rng = as_rng(rng).for_batch(len(x)) if rng is not None else None
        self._meet(x)
        answers: list[tuple[Tensor, ...]] = []
        start = 0
        # an empty batch is one empty part: the network knows how many classes its logits have
        while start < len(x) or not answers:
            part = slice(start, start + self._part_size)
            try:
                answers.append(ask(part, rng.select(part) if rng is not None else None))
            except RuntimeError as error:
                if not out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size = max(1, self.batch_size // 2)
                log.warning("out of memory: from now on %d images at a time", self.batch_size)
                continue
            start = part.stop
        return answers[0] if len(answers) == 1 else tuple(map(torch.cat, zip(*answers, strict=True)))

    def _meet(self, x: Images) -> None:
        """Make the twins of the network, once its first images are known; its weights may have changed since."""
        if not self._met and len(x):
            self._met, self._takes = True, dtype_of(self.network)
            if self.accelerate:
                precision = pick_precision(self.precision, x.device)
                self._twins = twins(self.network, x, precision, compiled=self.compiled)
            else:
                self._twins = Twins(None, None, "acceleration is switched off")

    def _forward(self, x: Images, rng: Rng | None, *, fast: bool) -> Logits:
        ask = self._alone if len(x) == 1 else self._ask
        logits: Tensor = answered_in(x.dtype, ask(x, rng, fast=fast))
        expect_logits(logits, len(x))
        if rng is not None and rng.index is not None:
            self.ledger.add("forwards", rng.index, self._evaluations)
        if x.requires_grad and not logits.requires_grad:
            raise NoGradientError(CUT_OFF)
        return logits

    def _alone(self, x: Images, rng: Rng | None, *, fast: bool) -> Logits:
        """Return the logits [1,k] of one image, asked about twice where the network cannot answer one alone."""
        error: BaseException | None = None
        if not self.never_alone:
            try:
                logits = self._ask(x, rng, fast=fast)
                if logits.ndim == 2:
                    return logits
            except THEIRS as raised:
                if isinstance(raised, NoGradientError) or out_of_memory(raised):
                    raise
                error = raised
        twice = None if rng is None else rng.select(torch.zeros(2, dtype=torch.int64))
        try:
            logits = self._ask(torch.cat([x, x]), twice, fast=fast)
        except THEIRS:
            if error is None:
                raise
            raise error from None  # it is not for their number
        if not self.never_alone:
            self.never_alone = True
            log.warning("the network cannot answer a batch of one: a single image is asked about twice")
        return logits[:1]

    def _ask(self, x: Images, rng: Rng | None, *, fast: bool) -> Tensor:
        other = None if fast else self.decides
        network = self.network if other is None else other
        if isinstance(network, StochasticModule) and network.stochastic:
            if rng is None:
                raise ValueError("this network is stochastic: expected rng=Rng(seed) for its draws, got none")
            network.redraw(rng)
            network.at_once = self.batch_size
        made = self._twins if other is None else None
        twin = None if made is None else made.exact if not fast or made.fast is None else made.fast
        self._batch("forward", x, rng, fast=fast)
        # a copy, as a network may write into what it is given
        if twin is None:
            return answer(network, x.clone() if self._takes is None else x.clone().to(self._takes))
        return twin(x.clone(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def _batch(self, way: Way, x: Images, rng: Rng | None, *, fast: bool) -> None:
        """Count a call of the network, for rows that are counted."""
        if rng is not None and rng.index is not None:
            low = fast and self._twins is not None and self._twins.fast is not None
            dtype = torch.bfloat16 if low else self._takes or x.dtype
            self.ledger.add_batch(way, dtype, len(x) * self._copies)

    def _counted(self, gradient: Images, rng: Rng | None) -> Images:
        largest = gradient.detach().abs().flatten(1).amax(1)  # NaN where an entry is
        finite = largest.isfinite()
        if rng is not None and rng.index is not None:
            self._batch("backward", gradient, rng, fast=True)
            self.ledger.add("backwards", rng.index, self._evaluations)
            self.ledger.add("zero_gradients", rng.index, largest == 0)
            self.ledger.add("bad_gradients", rng.index, ~finite)
        return gradient if finite.all() else gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
