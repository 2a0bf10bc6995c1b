"""What a record claims to show is read field by field, and what has another type is left out."""

import math

import pandas as pd
import pytest

from robust_eval.results.pictured import MOST, AttackPictured, CleanPictured, pictured
from robust_eval.results.record import Record

CLEAN = {"index": 3, "label": "cat", "prediction": "dog", "confidence": 0.5, "picture": "AAAA"}
ATTACK = {
    "index": 3,
    "label": "cat",
    "prediction": "dog",
    "confidence": 0.5,
    "distance": 0.1,
    "scale": 0.1,
    "clean_prediction": "cat",
    "clean_confidence": None,
    "attacked": True,
    "broken": True,
    "difference": "AAAA",
}


def record(pictures):
    return Record("key", {}, {}, (), (), {"pictures": pictures}, pd.DataFrame())


def test_what_was_written_is_read():
    assert pictured(record([CLEAN]), CleanPictured)[3].model_dump() == CLEAN
    assert pictured(record([ATTACK]), AttackPictured)[3].model_dump() == ATTACK


@pytest.mark.parametrize(
    "wrong",
    [
        {"index": -1},
        {"index": True},
        {"index": 1.5},
        {"index": 10**30},
        {"confidence": math.nan},
        {"confidence": 1.5},
        {"confidence": "high"},
        {"distance": math.inf},
        {"scale": 0.0},
        {"scale": math.nan},
        {"scale": 1e30},
        {"attacked": 1},
        {"difference": 7},
        {"difference": "A" * (1 << 18)},
        {"label": None},
        {"prediction": ["dog"]},
    ],
    ids=lambda wrong: " ".join(map(str, wrong)),
)
def test_a_field_of_another_type_or_range_leaves_the_image_out(wrong):
    found = pictured(record([{**ATTACK, **wrong}, {**ATTACK, "index": 4}]), AttackPictured)
    assert list(found) == [4]


@pytest.mark.parametrize("pictures", [None, 7, "AAAA", {"index": 1}, [], [None, 3, "x", [], {}]])
def test_what_is_no_list_of_images_shows_nothing(pictures):
    assert pictured(record(pictures), CleanPictured) == {}


def test_no_more_are_looked_at_than_are_ever_kept():
    many = [{**CLEAN, "index": i} for i in range(1000)]
    assert list(pictured(record(many), CleanPictured)) == list(range(MOST))
