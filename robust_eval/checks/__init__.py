"""Reasons not to trust a number: each check looks at one thing and gives a verdict, a figure and what to do.

- :mod:`.outputs`: a model's answers to clean images. These concern every number of the model.
- :mod:`.results`: what one attack handed back. These go into the record of that attack.
- :mod:`.inputs`, :mod:`.gradients`, :mod:`.probes`, :mod:`.planted`: a model as an attack sees it, by small
  experiments on a few images (:class:`Subject`); they go into a record of their own (:mod:`.examination`).
- :mod:`.about`: what each check is about; :mod:`.meanings`: what its figure means.
"""

from robust_eval.checks.outputs import (
    above_chance,
    class_coverage,
    deterministic,
    enough_images,
    finite,
    logits,
    model_checks,
)
from robust_eval.checks.results import (
    constraint,
    gradient_draws,
    minimal_transfer,
    rounding,
    vanishing_gradient,
    violations,
    zero_gradient,
)
from robust_eval.checks.subject import Subject

__all__ = [
    "Subject",
    "above_chance",
    "class_coverage",
    "constraint",
    "deterministic",
    "enough_images",
    "finite",
    "gradient_draws",
    "logits",
    "minimal_transfer",
    "model_checks",
    "rounding",
    "vanishing_gradient",
    "violations",
    "zero_gradient",
]
