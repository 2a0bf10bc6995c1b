"""Whether the gradients that attacks follow belong to the function that they climb, and lead anywhere."""

from __future__ import annotations

import copy
import logging

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from robust_eval.checks.card import check
from robust_eval.checks.subject import Subject
from robust_eval.classifier import frozen
from robust_eval.errors import NoGradientError
from robust_eval.findings import Check
from robust_eval.geometry import random_start
from robust_eval.losses import margin
from robust_eval.rng import Rng, seeded
from robust_eval.types import Images, Labels, StochasticModule

__all__ = ["gradient_agrees", "gradients", "smooth_loss"]

log = logging.getLogger(__name__)

FEW = 8
DIRECTIONS = 3
DISAGREEMENT = 0.2
"""Relative error beyond which a gradient does not belong to the function."""
STEPS = {torch.float64: 1e-7, torch.float32: 2e-4}
"""Half the distance of the two points of a difference: short against kinks, long against rounding. In units of the
[0, 1] pixel range."""
HALF = (torch.bfloat16, torch.float16)
POINTS = 20
RADIUS = 1e-3
"""A quarter of a grey level of 8 bits: nobody's decision should hang on it."""
ROUGH = 0.02


@check(about="gradients", words="output cut off from the image", unit="yes", any_norm=True, masked=True)
def gradients(cut_off: NoGradientError) -> Check:
    """Fail where autograd cannot differentiate the model, so that no check that needs gradients can be made."""
    return Check("gradients", "fail", 1.0, str(cut_off))


@check(
    about="gradients",
    words="relative error of slopes told by the gradient, median",
    unit="number",
    any_norm=True,
    suspicious=True,
    quick=40,
    full=40,
)
def gradient_agrees(subject: Subject) -> Check | None:
    """Warn when the gradient that attacks see is not that of the outputs they see.

    Measured at a random point of the ball of up to 8 images, along 3 directions d of random signs each: the central
    difference ``(L(x + h d) - L(x - h d)) / 2h`` of the margin L (best other logit minus the label's) against
    ``<∇L, d>``, both of the model as attacks see it, whose decisions are those of the model that is scored. The figure
    is the median over directions of ``|difference - <∇L, d>| / max(|difference|, |<∇L, d>|)``; where both are exactly
    zero the function is flat and the error counts as 1. Above 0.2 it warns. Measured in float64: 1e-9 for small
    networks on digits, 3e-8 for a ResNet-18 on CIFAR-10 (2e-3 with h = 1e-6, where kinks of its ReLUs come in
    between); 1 where the input is rounded, with a straight-through gradient or none, or the output is one-hot, and 0.3
    to 0.7 with batch statistics.

    The network is asked itself, in float64 with h = 1e-7, and where that is not possible or warns (it may cast to
    float32 on the way), in float32 with h = 2e-4, which gave 0.001 and 0.05 for the two honest ones; the smaller error
    counts. A random model has the same draws at all points, whether it declares them or not. Ripples longer than h
    pass: :func:`smooth_loss` looks for those.

    ``None`` where the comparison says nothing: a module of the network declares another gradient than its own, by an
    attribute ``straight_through`` that is true (a defense, or what mended the model), or its weights have half
    precision, in which differences are rounding, and it cannot be asked in a higher one.

    Costs 1 gradient and 6 forwards for each of up to 8 images, in float64, and as many in float32 if that warns.
    """
    x, y = subject.x[:FEW], subject.y[:FEW]
    rng = subject.rng.select(slice(len(x))).child("gradient_agrees")
    norm, eps = subject.threat.norm, subject.threat.eps
    assert (norm == "linf" or norm == "l2") and eps is not None
    # asked once as attacks do, for the error that tells of a model without gradients
    subject.seen.input_gradient(x[:1], y[:1], margin, rng=rng.select(slice(1)))
    points = subject.held(random_start(x, norm, eps, rng), slice(len(x)))
    free = None if subject.free is None else subject.free[: len(x)]
    seen = subject.seen.network
    if any(getattr(module, "straight_through", False) is True for module in seen.modules()):
        return None
    error = 1.0
    for dtype in (torch.float64, torch.float32):
        try:
            error = min(error, _error(seen, points, y, rng, dtype, free))
        except (RuntimeError, TypeError):  # of mixed types, or of a network that cannot be copied
            if dtype == torch.float32:
                raise
        if error <= DISAGREEMENT:
            break
    if error > DISAGREEMENT and any(weight.dtype in HALF for weight in seen.parameters()):
        return Check.not_made(
            "gradient_agrees", "the model computes in half precision alone, too coarse to compare"
        )
    return Check(
        "gradient_agrees",
        "warn" if error > DISAGREEMENT else "ok",
        error,
        "the gradient is not that of the outputs: a step of the forward pass is rounded, cut off, depends on the batch "
        "or has a backward pass of its own; compare with attacks that need no gradient (square)",
    )


def _error(
    network: nn.Module,
    x: Images,
    y: Labels,
    rng: Rng,
    dtype: torch.dtype,
    free: Bool[Tensor, "n c h w"] | None,
) -> float:
    """Return the median relative error of directional derivatives, computed in this precision.

    Of directions along the pixels that may change.
    """
    h = STEPS[dtype]
    if dtype == torch.float64:
        network = copy.deepcopy(network).double()
    # off the walls of the box, where a model that clamps has a kink
    x = x.to(dtype).clamp(2 * h, 1 - 2 * h)
    with frozen(network):
        leaf = x.clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(_margin(network, leaf, y, rng).sum(), leaf)
        errors = []
        for direction in range(DIRECTIONS):
            d = (rng.child("direction", direction).integers(2, *x.shape[1:], device=x.device) * 2 - 1).to(
                dtype
            )
            d = d if free is None else d * free
            with torch.no_grad():
                there, back = (_margin(network, x + side * h * d, y, rng) for side in (1, -1))
            difference, product = (there - back).double() / (2 * h), (gradient * d).flatten(1).double().sum(1)
            largest = torch.maximum(difference.abs(), product.abs())
            error = (difference - product).abs() / largest
            errors.append(torch.where(error.isnan(), torch.ones_like(error), error))
    return torch.cat(errors).median().item()


def _margin(network: nn.Module, x: Images, y: Labels, rng: Rng) -> Float[Tensor, " n"]:
    """Return the margin with the draws of ``rng``, whether the network declares its draws or not."""
    if isinstance(network, StochasticModule) and network.stochastic:
        network.redraw(rng.child("draws"))
    with seeded(rng.child("draws")):
        return margin(network(x.clone()), y)  # which may write into what it is given


@check(
    about="gradients",
    words="relative change of the loss within a quarter of a grey level",
    unit="number",
    any_norm=True,
    suspicious=True,
    quick=50,
    full=50,
)
def smooth_loss(subject: Subject) -> Check:
    """Warn when the loss jumps between points that are all but the same.

    The "unstable loss" of Pintor et al. 2022 (arXiv 2106.09947): the mean over random points around an image of
    ``|L(x') - L(x)| / |L(x)|``, at most 1; the figure is its median over images. Deviations: L is the margin, not the
    cross-entropy, which is zero in float32 for confident models; the radius is 1e-3 per pixel, a quarter of a grey
    level, not 8/255, where the loss of an honest model moves as well; 20 points, as one point and another agree to a
    tenth; the median over images, as the figure of one at the decision boundary says nothing.

    Above 0.02 it warns. For a smooth margin the figure is about ``0.46 · 1e-3 / r``, r being the L2 distance to the
    decision boundary, so 0.02 would take boundaries 0.023 away. Measured: 0.001 for small networks on 8 x 8 digits,
    with and without adversarial training, 0.003 for an undefended ResNet-18 on CIFAR-10, 0.03 to 0.04 with a ripple of
    amplitude 0.05 and wavelength 0.006 on every pixel.

    A random model is asked with the same draws each time, whether it declares them or not.

    Costs 21 forwards for each of up to 16 images.
    """
    x, y = subject.x[: 2 * FEW], subject.y[: 2 * FEW]
    rng = subject.rng.select(slice(len(x))).child("smooth_loss")
    draws = rng.child("draws")

    def loss_at(points: Images) -> Float[Tensor, " n"]:
        with seeded(draws):
            return margin(subject.seen.logits(points, rng=draws), y)

    with subject.seen.frozen():
        loss = loss_at(x)
        changes = []
        for point in range(POINTS):
            near = random_start(x, "linf", RADIUS, rng.child("point", point))
            near = subject.held(near, slice(len(x)))
            change = (loss_at(near) - loss).abs() / loss.abs()
            changes.append(change.nan_to_num(nan=0.0).clamp(max=1))
    figure = torch.stack(changes).mean(0).median().item()
    return Check(
        "smooth_loss",
        "warn" if figure > ROUGH else "ok",
        figure,
        "the loss jumps between neighbouring points, so its gradient leads nowhere: smooth the model for the attack "
        "(gradients averaged over noise) or use an attack without gradients (square)",
    )
