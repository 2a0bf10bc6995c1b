"""The suite checks shapes: without the import hook, or with one that works otherwise, no other test would notice."""

import jaxtyping
import torch

from robust_eval.geometry import project


def refused(calls):
    """Which of so many calls with wrong shapes are refused."""
    images, found = torch.zeros(2, 1, 4, 4), []
    for call in range(1, calls + 1):
        try:
            project(images, images[:1], "linf", 0.1)
        except jaxtyping.TypeCheckError:
            found.append(call)
    return found


def test_wrong_shapes_are_refused_at_some_of_the_calls_of_each_file(monkeypatch):
    monkeypatch.setattr(jaxtyping.jaxtyped, "every_call", False)
    for file in ("one", "next"):
        monkeypatch.setattr(jaxtyping.jaxtyped, "file", file)
        assert refused(9) == [1, 2, 4, 8]


def test_they_can_be_refused_at_every_call(monkeypatch):
    monkeypatch.setattr(jaxtyping.jaxtyped, "every_call", True)
    assert refused(9) == list(range(1, 10))
