"""The plan of a run: what of it is neither measured nor failed is known to be missing."""

import json
from types import SimpleNamespace

from robust_eval.results.planned import PLANNED, unmeasured
from robust_eval.results.store import Store

WORDS = ("model", "defense", "access", "data", "family", "perturbation", "norm")


def cell(key, **labels):
    return SimpleNamespace(key=key, labels=dict.fromkeys(WORDS, "x") | labels)


def test_what_has_no_record_and_no_failure_is_unmeasured(tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "has", lambda _, key: key == "aa")
    cells = [cell("aa"), cell("bb"), cell("cc", model="a\x1b")]
    (tmp_path / PLANNED).write_text(
        json.dumps({"cells": [{"key": c.key, "labels": c.labels} for c in cells]})
    )
    Store(tmp_path).fail("bb", cell("bb").labels, "KeyError")
    (left,) = unmeasured(tmp_path)
    assert left["model"] == "a\\x1b"


def test_a_folder_without_a_plan_or_with_a_damaged_one_misses_nothing(tmp_path):
    assert unmeasured(tmp_path) == ()
    for text in (
        "{",
        "[]",
        '{"cells": 3}',
        '{"cells": [{"key": "a"}]}',
        '{"cells": [{"key": "a", "labels": {}}]}',
    ):
        (tmp_path / PLANNED).write_text(text)
        assert unmeasured(tmp_path) == ()
