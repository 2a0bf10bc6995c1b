"""What is kept is bounded by its bytes, and what is larger than that is kept alone."""

import pytest
import torch
from torch import nn

from robust_eval.evaluation.kept import Kept


def floats(n):
    return torch.zeros(n, dtype=torch.float32)


def refuse():
    pytest.fail("is kept already")


def test_what_is_kept_is_made_once():
    kept = Kept(100)
    made = kept.get("a", lambda: floats(5))
    assert kept.get("a", refuse) is made


@pytest.mark.parametrize("make", [lambda: floats(10), lambda: (floats(4), None, (floats(6), "words"))])
def test_the_least_recently_used_goes_first_when_bytes_run_out(make):
    kept = Kept(100)  # room for two of 40 bytes
    kept.get("a", make)
    kept.get("b", make)
    kept.get("a", refuse)
    kept.get("c", make)
    assert [key in kept for key in "abc"] == [True, False, True]


def test_a_network_counts_with_its_weights_and_statistics():
    kept = Kept(4 * 12 - 1)
    kept.get("small", lambda: floats(1))
    kept.get("network", lambda: nn.BatchNorm1d(2, dtype=torch.float32))  # 2 x 4 floats and a count of 8 bytes
    assert "small" in kept and "network" in kept
    kept.get("more", lambda: floats(1))
    assert "small" not in kept or "network" not in kept


def test_what_is_larger_than_the_bound_is_kept_beside_the_others_until_the_next_as_large():
    kept = Kept(100)
    small, large = kept.get("small", lambda: floats(1)), kept.get("large", lambda: floats(1000))
    assert kept.get("large", refuse) is large and kept.get("small", refuse) is small
    kept.get("larger", lambda: floats(2000))
    assert "larger" in kept and "large" not in kept and "small" in kept


def test_what_has_no_bytes_is_kept_without_any_memory():
    kept = Kept(0)
    assert kept.get("checks", lambda: ("ok", 0.5)) is kept.get("checks", refuse)
