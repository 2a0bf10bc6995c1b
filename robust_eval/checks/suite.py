"""All checks on a model as attacks see it, in two sizes: those whose cards have a place in the level."""

from __future__ import annotations

from collections.abc import Callable

from robust_eval.checks.card import card_of, turns
from robust_eval.checks.examination import Level
from robust_eval.checks.gradients import gradients
from robust_eval.checks.probes import Probe
from robust_eval.checks.subject import Subject
from robust_eval.classifier.given import black_box
from robust_eval.errors import NoGradientError, RobustEvalError
from robust_eval.findings import Check

__all__ = ["run_suite"]


def run_suite(
    subject: Subject,
    level: Level,
    *,
    norm_only: bool = False,
    begin: Callable[[str], None] = lambda name: None,
) -> tuple[Check, ...]:
    """Return what the checks of a level say: nothing of those that do not apply to the model, ``not_made`` with the
    reason of those whose questions it cannot answer. ``begin`` is called with the name of each.

    At the level ``answers`` those of ``quick`` that concern every number. With ``norm_only`` those are left out that do
    not depend on the norm of the subject's ball. A :class:`.Probe` given as the subject knows afterwards which images
    were broken. A model that autograd cannot differentiate fails one more check, ``gradients``, in place of those that
    need them; of a black box, which has no gradients to be wrong, those are left out.

    Measured on 32 digits at linf 0.1, in gradients (a forward is a third of one): ``quick`` 1,300 to 1,500 for an
    undefended network, 2,200 for an adversarially trained one, 2,900 for a stochastic one, 3,500 where a zero gradient
    hides every error; ``full`` 6,600 to 9,100, 16,500, 18,400 and 16,300, two thirds of it for Square.
    """
    probe = Probe.of(subject)
    checks: list[Check] = []
    cut_off: NoGradientError | None = None
    with probe.seen.frozen(), probe.model.frozen():
        for name, examine in turns("quick" if level == "answers" else level):
            card = card_of(name)
            if (norm_only and card.any_norm) or (level == "answers" and card.about != "answers"):
                continue
            begin(name)
            try:
                check = examine(probe)
            except NoGradientError as error:
                cut_off = error
                continue
            except RobustEvalError:  # wrong data or parameters
                raise
            except Exception as error:  # the model's own code, on images it did not expect
                check = Check.not_made(name, error)
            if check is not None:
                checks.append(check)
    if cut_off is not None and not black_box(probe.model.network):
        checks.append(gradients(cut_off))
    return tuple(checks)
