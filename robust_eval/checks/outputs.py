"""What a model's answers to clean images say about it."""

from __future__ import annotations

from robust_eval.adaptive.links import link_of
from robust_eval.checks.card import check
from robust_eval.findings import Check
from robust_eval.metrics.exact_tests import above
from robust_eval.types import Labels, Logits

__all__ = [
    "above_chance",
    "class_coverage",
    "deterministic",
    "enough_images",
    "finite",
    "logits",
    "model_checks",
]

FEWEST = 8
"""Images without which an examination says nothing."""
FEW = 20
"""Images below which an examination says little: a fault that misleads one attack in five may pass."""


@check(
    about="answers",
    made="model",
    words="images with an output that is NaN or infinite",
    unit="share",
)
def finite(output: Logits) -> Check:
    """Fail when the model answers some clean image with NaN or infinity (counted as a wrong prediction)."""
    # minus infinity is a legitimate way to rule a class out
    share = (~output.softmax(1).isfinite()).any(1).double().mean().item()
    return Check(
        "finite",
        "fail" if share else "ok",
        share,
        "the model returns NaN or infinite outputs; check its weights, its normalisation and its precision",
    )


@check(
    about="answers",
    made="model",
    words="images whose outputs all lie in [0, 1]",
    unit="share",
)
def logits(output: Logits) -> Check:
    """Warn when the outputs are probabilities or those of a sigmoid: attacks take the softmax of them as if they were
    logits. The figure is the share of images whose outputs lie in [0, 1].
    """
    rows = output[output.isfinite().all(1)]
    share = ((rows >= 0) & (rows <= 1)).all(1).double().mean().item() if len(rows) else 0.0
    link = link_of(output)
    returned = "sigmoid outputs (each in [0, 1])" if link == "sigmoid" else "probabilities"
    return Check(
        "logits",
        "warn" if link is not None else "ok",
        share,
        f"the model returns {returned}, not logits; return what comes before the {link or 'softmax'}, or gradients "
        "shrink and other attacks than ours look weaker than they are",
    )


@check(
    about="answers",
    made="model",
    words="predictions that change when asked again, else relative change of outputs",
    unit="number",
)
def deterministic(first: Logits, second: Logits, *, known: bool = True) -> Check:
    """Warn when the same images get other outputs the second time (share of predictions that change, or 1e-4).

    Fail where the model was not ``known`` to draw: then nothing has been adapted to it.
    """
    flips = (first.argmax(1) != second.argmax(1)).double().mean().item()
    change = (first - second).nan_to_num().abs().amax(1) / first.nan_to_num().abs().amax(1).clamp(min=1e-12)
    random = flips > 0 or change.max().item() > 1e-4
    if known:
        advice = (
            "the model draws random numbers of its own: it is attacked in expectation and scored over several draws; "
            "switch the randomness off if it is not meant (dropout in train mode)"
        )
    else:
        advice = (
            "the model answers differently now and then, by a generator of its own: attacks take luck for success; "
            "have it draw from torch's global generator, or return a StochasticModule"
        )
    return Check(
        "deterministic",
        ("warn" if known else "fail") if random else "ok",
        flips if flips else change.max().item(),
        advice,
    )


@check(
    words="correct images examined",
    unit="count",
)
def enough_images(right: int) -> Check:
    """Fail when fewer than 8 images are classified correctly, warn below 20: little can be learnt from attacking them.

    Exact tests at 1 % stay silent on so few, whatever is wrong.
    """
    few = FEW if right >= FEWEST else FEWEST
    return Check(
        "enough_images",
        "ok" if right >= FEW else "warn" if right >= FEWEST else "fail",
        float(right),
        f"too few images to say: fewer than {few} are classified correctly; give more images, or check weights and "
        "normalisation",
    )


@check(
    about="answers",
    words="accuracy on clean images",
    unit="share",
)
def above_chance(right: int, n: int, classes: int) -> Check:
    """Warn when no better than guessing (exact binomial test at 1 %), fail if so on 50 images or more."""
    guessing = n > 0 and not above(right, n, 1 / max(classes, 1))
    return Check(
        "above_chance",
        ("fail" if n >= 50 else "warn") if guessing else "ok",
        right / max(n, 1),
        "the model is no better than guessing: check its weights, its normalisation and the order of the classes",
    )


@check(
    about="answers",
    made="model",
    words="classes among the images",
    unit="count",
)
def class_coverage(y: Labels, classes: int) -> Check:
    """Warn when all images are of one class: the file is probably sorted by class."""
    seen = len(set(y.tolist()))
    return Check(
        "class_coverage",
        "warn" if seen == 1 and classes > 1 and len(y) > 1 else "ok",
        float(seen),
        "every image is of one class; the file is probably sorted by class: shuffle it or raise n",
    )


def model_checks(first: Logits, second: Logits, y: Labels, *, known: bool = True) -> tuple[Check, ...]:
    """Return the checks on a model's clean outputs, asked for twice: with the same draws for a declared stochastic
    model, with others for one that has not said that it draws.
    """
    return (
        finite(first),
        logits(first),
        deterministic(first, second, known=known),
        class_coverage(y, first.shape[1]),
    )
