"""What a model's answers to clean images say about it."""

from __future__ import annotations

from collections.abc import Sequence

from robust_eval.adaptive.links import link_of
from robust_eval.checks.card import check
from robust_eval.data import other_order
from robust_eval.findings import Check, Verdict
from robust_eval.metrics.exact_tests import above, gain
from robust_eval.types import Labels, Logits

__all__ = [
    "above_chance",
    "class_coverage",
    "class_order",
    "deterministic",
    "enough_images",
    "finite",
    "logits",
    "model_checks",
]

FEWEST = 8
"""Images without which an examination says nothing."""
GAIN, FLOOR = 0.05, 0.8
"""Accuracy that the other order of the classes must gain, and must have, for the check to fail: as of another scale of
the pixels."""
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


@check(
    about="answers",
    made="model",
    words="accuracy gained by the other order of the classes",
    unit="share",
)
def class_order(output: Logits, y: Labels, names: Sequence[str]) -> Check | None:
    """Fail when the model is right on many more images, and on most, if class folders named by numbers are sorted the
    other way: 2 before 10 as numbers, 10 before 2 as text. Warn when it is right on more.

    Both orders number the classes of the same images; the gain has the interval of the exact paired test (McNemar's,
    at 1 %). The check fails where all of the interval is above 5 points and the accuracy there is above 80 % beyond
    what the exact binomial test allows, and warns where the interval is above 0 and the gain 5 points. ``None`` where
    the names have one order.
    """
    if (found := other_order(names)) is None:
        return None
    word, others = found
    numbers = {name: number for number, name in enumerate(others)}
    relabelled = y.new_tensor([numbers[name] for name in names])[y]
    predicted = output.argmax(1)
    here, there, n = predicted == y, predicted == relabelled, len(y)
    figure, low, _ = gain(int((there & ~here).sum()), int((here & ~there).sum()), n)
    failed = low >= GAIN and above(int(there.sum()), n, FLOOR)
    verdict: Verdict = "fail" if failed else "warn" if low > 0 and figure >= GAIN else "ok"
    return Check(
        "class_order",
        verdict,
        max(figure, 0.0),
        f"in the order of {word} this model would be right on {100 * int(there.sum()) / n:.0f} % of {n} images instead "
        f"of {100 * int(here.sum()) / n:.0f} %: class folders named by numbers are sorted otherwise than when it was "
        f"trained; give --class-order {word} (class_order in [data])",
    )


def model_checks(
    first: Logits, second: Logits, y: Labels, *, known: bool = True, names: Sequence[str] = ()
) -> tuple[Check, ...]:
    """Return the checks on a model's clean outputs, asked for twice: with the same draws for a declared stochastic
    model, with others for one that has not said that it draws. ``names`` are those of the classes' folders.
    """
    ordered = class_order(first, y, names)
    return (
        finite(first),
        logits(first),
        deterministic(first, second, known=known),
        class_coverage(y, first.shape[1]),
        *(() if ordered is None else (ordered,)),
    )
