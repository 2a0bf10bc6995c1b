"""Reasons not to trust a number: each check looks at one thing and gives a verdict, a figure and what to do.

- :mod:`.outputs`: a model's answers to clean images. These concern every number of the model.
- :mod:`.results`: what one attack handed back. These go into the record of that attack.
- :mod:`.inputs`, :mod:`.gradients`, :mod:`.probes`, :mod:`.planted`: a model as an attack sees it, by small
  experiments on a few images (:class:`Subject`); they go into a record of their own (:mod:`.examination`).
- :mod:`.card`: what each check says about itself; :mod:`.suite`: an examination; :mod:`.meanings`: figures in words;
  :mod:`.table`: all checks as a page. Comparisons of records are in :mod:`robust_eval.results.comparisons`.

Every public module is imported, so that the checks in it register themselves.
"""

import sys

from robust_eval.checks.outputs import (
    above_chance,
    class_coverage,
    class_order,
    deterministic,
    enough_images,
    finite,
    logits,
    model_checks,
)
from robust_eval.checks.results import (
    blind_pixels,
    constraint,
    gradient_draws,
    minimal_transfer,
    rounding,
    target_class,
    vanishing_gradient,
    violations,
    zero_gradient,
)
from robust_eval.checks.subject import Subject
from robust_eval.registry import discover

__all__ = [
    "Subject",
    "above_chance",
    "blind_pixels",
    "class_coverage",
    "class_order",
    "constraint",
    "deterministic",
    "enough_images",
    "finite",
    "gradient_draws",
    "logits",
    "minimal_transfer",
    "model_checks",
    "rounding",
    "target_class",
    "vanishing_gradient",
    "violations",
    "zero_gradient",
]

discover(sys.modules[__name__])
