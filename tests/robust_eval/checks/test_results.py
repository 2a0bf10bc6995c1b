"""What one attack handed back is judged by shares that chance does not explain."""

import pytest
import torch

from robust_eval import checks
from robust_eval.registry import build


@pytest.mark.parametrize(
    ("lost", "found", "expected"),
    [(1, 1, "ok"), (1, 2, "ok"), (2, 2, "warn"), (2, 40, "ok"), (8, 40, "warn")],
)
def test_images_lost_to_rounding_must_be_more_than_a_few(lost, found, expected):
    fooled = torch.arange(50) < found
    still = fooled & (torch.arange(50) >= lost)
    check = checks.rounding(build("attack", "pgd", {}), fooled, still)
    assert (check.verdict, check.figure) == (expected, pytest.approx(lost / found))
    assert checks.rounding(build("attack", "fmn", {"norm": "linf"}), fooled, still).verdict == "ok"


def test_an_attack_that_found_nothing_lost_nothing():
    nobody = torch.zeros(5, dtype=torch.bool)
    check = checks.rounding(build("attack", "pgd", {}), nobody, nobody)
    assert (check.verdict, check.figure) == ("ok", 0)
