"""What goes into a model and what it does with it: normalisation, modes, the rest of the batch, its own gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from robust_eval.adaptive.randomness import GlobalDraws
from robust_eval.checks.card import check
from robust_eval.checks.subject import Subject
from robust_eval.classifier import Classifier, frozen, misclassified
from robust_eval.errors import RobustEvalError
from robust_eval.findings import Check, Verdict
from robust_eval.metrics.exact_tests import above, gain
from robust_eval.rng import Rng, seeded
from robust_eval.types import Images, Labels, StochasticModule

__all__ = ["batch_dependence", "eval_mode", "normalisation", "optimises_at_inference"]

USUAL: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR-100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "[-1, 1]": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "MNIST": ((0.1307,), (0.3081,)),
    "grey [-1, 1]": ((0.5,), (0.5,)),
}
"""Mean and standard deviation of each channel that published training code divides by."""
GAIN = 0.05
"""Accuracy that another scale must gain at least: with thousands of images a fraction of a point is significant."""
LARGE = 0.1
"""Gain of accuracy that is told even where the images are too few to be sure."""
LIKELY = 0.05
"""Probability of a false alarm at which a large gain is told."""
FLOOR = 0.8
"""Accuracy on the other scale without which nothing fails: a network that has hardly been trained, with statistics of
its batch normalisation that lag behind, may do better on any scale than on its own (40 % against 84 %, measured)."""
WELL, HALF = 0.7, 0.5
"""Accuracy on the other scale below which nothing is said: all networks that know little have a scale they do better
on. Half is enough of ``MANY`` classes, or with a ``HUGE`` gain."""
MANY, HUGE = 100, 0.3
ROUNDING = 1e-4
"""Relative difference of logits that float32 explains (the criterion of AutoAttack's randomness check)."""
FEW = 8


@check(
    about="answers",
    words="accuracy gained on another scale of pixels",
    unit="share",
)
def normalisation(model: Classifier, x: Images, y: Labels, rng: Rng) -> Check:
    """Fail when images on another scale are classified much better, and well: a normalisation was forgotten, or made
    twice. Warn when they are classified better, and not badly.

    Compared with the accuracy on ``x`` [n,c,h,w] are those on ``(x - m) / s`` for the usual means and standard
    deviations, on ``m + s x`` (which undoes one too many) and on ``255 x``. The figure is the gain of the best of
    them, 0 if none gains; its interval is that of the exact paired test (McNemar's, at 1 % shared by the scales). The
    check fails where all of the interval is above 5 points, and the accuracy there is above 80 % beyond what the exact
    binomial test allows; it warns where the interval is above 0 and the gain 5 points, or where the gain is 10 points
    and the test speaks at 5 %.

    To warn it asks for enough right answers there: 70 %, or half of them with a gain of 30 points or of 100 classes
    (the last not measured). A network that has hardly been trained does better on a scale that it was not trained on,
    which no test of counts tells from a forgotten normalisation: it gets "ok", and its figure stands. Measured on 128
    digits with small networks after 1 to 5 passes over 100 to 1,287, of seeds that the floor was not chosen by: of 194
    asked on their own scale 2 are told (21 without the floor), of 84 with a forgotten normalisation that are right on
    70 % or more with it 76.

    The images must not be chosen by whether they are classified correctly. Costs 10 forwards an image for three
    channels, 6 for one, 2 otherwise.
    """
    scales = _scales(x.shape[1])
    with model.frozen():
        logits = model.logits(x, rng=rng)
        right = ~misclassified(logits, y)
        found = [~misclassified(model.logits((x - m) / s, rng=rng), y) for m, s in _tensors(scales, x)]
    best = max(range(len(found)), key=lambda i: int(found[i].sum()))
    gained, lost = int((found[best] & ~right).sum()), int((right & ~found[best]).sum())
    n, there = len(x), int(found[best].sum())
    figure, low, high = gain(gained, lost, n, comparisons=len(scales))
    likely = figure >= LARGE and gain(gained, lost, n, level=LIKELY)[1] > 0
    enough = there >= n * (HALF if figure >= HUGE or logits.shape[1] >= MANY else WELL)
    if low >= GAIN and above(there, n, FLOOR):
        verdict: Verdict = "fail"
    else:
        verdict = "warn" if enough and ((low > 0 and figure >= GAIN) or likely) else "ok"
    told = f"{there} of {n} images are right so instead of {int(right.sum())}, a gain of {100 * figure:.0f} points"
    return Check(
        "normalisation",
        verdict,
        max(figure, 0.0),
        f"{list(scales)[best]} ({told}, {100 * low:.0f} to {100 * high:.0f})",
    )


def _scales(channels: int) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return what to subtract and to divide by, under the words of the advice."""
    one = (1.0,) * channels
    wide = "the model expects pixels in 0..255, and does better on them: scale them inside the model"
    scales = {wide: ((0.0,) * channels, (1 / 255,) * channels)}
    for name, (mean, std) in USUAL.items():
        if len(mean) == channels:
            told = f"mean {list(mean)} and std {list(std)}"
            missing = f"the model expects normalised images, and does better so as for {name}: give {told}"
            scales[missing] = (mean, std)
            undone = tuple(-m / s for m, s in zip(mean, std, strict=True))
            twice = (
                f"the model normalises twice: it does better when {told} ({name}) are undone; leave one out"
            )
            scales[twice] = (
                undone,
                tuple(o / s for o, s in zip(one, std, strict=True)),
            )
    return scales


def _tensors(
    scales: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]], x: Images
) -> Iterator[tuple[Tensor, Tensor]]:
    for mean, std in scales.values():
        yield x.new_tensor(mean).view(-1, 1, 1), x.new_tensor(std).view(-1, 1, 1)


@check(
    about="answers",
    words="modules in training mode",
    unit="count",
    quick=10,
    full=10,
)
def eval_mode(subject: Subject) -> Check:
    """Fail when a module is in training mode although the network was put in eval mode.

    Looked at three times: after ``eval()``, as each module is called, and after a forward pass of one image: a
    network may override ``train`` or switch a part of itself on its way. Only modules that can behave differently
    count: dropout, batch and instance normalisation, and modules of the network's own that hold no others. The figure
    is how many of them train. Functional forms with ``training=True`` have no flag to look at: dropout shows in
    ``deterministic``, batch normalisation in ``batch_dependence``.

    Costs 1 forward.
    """
    network, awake = subject.model.network, set[str]()

    def look(name: str, module: nn.Module) -> None:
        if module.training and _has_modes(module):
            awake.add(name)

    def look_everywhere() -> None:
        for name, module in network.named_modules():
            look(name, module)

    handles = []
    with frozen(network):
        look_everywhere()
        try:
            for name, module in network.named_modules():
                handles.append(
                    module.register_forward_pre_hook(lambda module, _, name=name: look(name, module))
                )
            _answer(network, subject.x[:1], subject.rng.select(slice(1)).child("eval_mode"))
        finally:
            for handle in handles:
                handle.remove()
        look_everywhere()
    named = ", ".join(sorted(awake)[:3]) or "none"
    return Check(
        "eval_mode",
        "fail" if awake else "ok",
        float(len(awake)),
        f"modules stay in training mode after eval() ({named}): dropout or batch statistics are on; "
        "look for a train() that is overridden or a .train() inside forward",
    )


def _has_modes(module: nn.Module) -> bool:
    layers = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    own = not type(module).__module__.startswith("torch.") and not any(module.children())
    return isinstance(module, layers) or own


@check(
    about="answers",
    words="largest change of an image's logits with its batch, of the largest",
    unit="number",
    quick=20,
    full=20,
)
def batch_dependence(subject: Subject) -> Check:
    """Fail when an image gets other logits alone than together with others.

    Up to 8 images are asked about one by one, together, and shuffled among as many images of random pixels. The figure
    is the largest difference, relative to the image's largest logit; above 1e-4, which is more than float32 rounds,
    the check fails. The same rows of ``rng`` give a stochastic model the same draws in each batch. A model that gives
    other logits when the same batch comes again, or draws from torch's generator, gets "ok": it draws for a batch as a
    whole, so that batches cannot be compared, and the check ``deterministic`` speaks about it.

    Costs 5 forwards for each of up to 8 images.
    """
    model, x = subject.model, subject.x[:FEW]
    n = len(x)
    rng = subject.rng.select(slice(n))
    draws = rng.child("batch_dependence", "draws")
    strangers = rng.child("batch_dependence", "strangers").uniform(*x.shape[1:], device=x.device).to(x.dtype)
    order = torch.from_numpy(rng.child("batch_dependence", "order").numpy().permutation(2 * n)).to(x.device)
    with model.frozen():
        together = model.logits(x, rng=draws)
        before = _generator(x)
        again = model.logits(x, rng=draws)
        # a flip of a coin in twenty need not show the second time
        random = not torch.equal(before, _generator(x)) or _difference(together, again) > ROUNDING
        random |= any(isinstance(module, GlobalDraws) for module in model.network.modules())
        mixed = model.logits(torch.cat([x, strangers])[order], rng=_twice(draws).select(order))
        difference = _difference(together, mixed[order.argsort()[:n]])
        try:
            alone = [model.logits(x[i : i + 1], rng=draws.select(slice(i, i + 1))) for i in range(n)]
        except RobustEvalError:
            raise
        except (
            Exception
        ):  # batch normalisation of a single value, or a squeeze that drops the batch: none alone
            difference = 1.0
        else:
            # one that was padded was not asked alone
            difference = (
                1.0 if model.never_alone else max(difference, _difference(together, torch.cat(alone)))
            )
    return Check(
        "batch_dependence",
        "fail" if difference > ROUNDING and not random else "ok",
        0.0 if random else difference,
        "an image's logits depend on the rest of its batch: a batch statistic leaks in; use running statistics "
        "(eval mode), or numbers change with the batch size",
    )


def _twice(rng: Rng) -> Rng:
    assert rng.index is not None
    return rng.rows(torch.cat([rng.index, rng.index]))


def _generator(x: Images) -> Tensor:
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def _difference(first: Tensor, second: Tensor) -> float:
    scale = first.nan_to_num().abs().amax(1).clamp(min=1e-12)
    return ((first - second).nan_to_num().abs().amax(1) / scale).max().item()


@check(
    about="gradients",
    words="gradients computed inside one forward pass",
    unit="count",
    any_norm=True,
    quick=30,
    full=30,
)
def optimises_at_inference(subject: Subject) -> Check:
    """Warn when a forward pass computes gradients of its own.

    Such a model optimises as it answers: it purifies the image or adapts its weights (Croce et al. 2022, arXiv
    2202.13711). Counted are the calls of ``torch.autograd.grad``, ``backward`` and of an optimizer's ``step`` during
    one forward pass of two images, without a tracer of Python's, so that debuggers and coverage go on. A gradient
    written out by hand is not seen. The figure is the number of calls.

    Costs 1 forward for each of 2 images.
    """
    network = subject.model.network
    with frozen(network), _counted_calls() as calls:
        _answer(network, subject.x[:2], subject.rng.select(slice(2)).child("optimises_at_inference"))
    return Check(
        "optimises_at_inference",
        "warn" if calls else "ok",
        float(len(calls)),
        "the model optimises while it answers: a plain gradient misses what that does; attack it adaptively, "
        "through the loop or around it",
    )


class _Calls(TorchFunctionMode):
    """Note calls of ``torch.autograd.grad``, by whatever name it was imported."""

    def __init__(self, calls: list[str], backward: Callable[..., None]) -> None:
        super().__init__()
        self.calls = calls
        self.backward = backward

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.autograd.grad:
            self.calls.append("grad")
        if func is torch.autograd.backward:
            func = self.backward  # noted already
        return func(*args, **(kwargs or {}))


@contextmanager
def _counted_calls() -> Iterator[list[str]]:
    """Collect the names of calls that compute or apply a gradient."""
    calls: list[str] = []
    handle = register_optimizer_step_pre_hook(lambda *_: calls.append("step"))
    backward = torch.autograd.backward

    def noted(*args: Any, **kwargs: Any) -> None:
        calls.append("backward")
        backward(*args, **kwargs)

    try:
        # what Tensor.backward ends in; a mode does not see it
        torch.autograd.backward = noted
        with _Calls(calls, backward):
            yield calls
    finally:
        torch.autograd.backward = backward
        handle.remove()


def _answer(network: nn.Module, x: Images, rng: Rng) -> Tensor:
    """Return the logits of the network itself, not of a faster twin; draws of any kind come from ``rng``."""
    if isinstance(network, StochasticModule) and network.stochastic:
        network.redraw(rng)
    with torch.no_grad(), seeded(rng):
        answer: Tensor = network(x.clone())  # which may write into what it is given
    return answer
