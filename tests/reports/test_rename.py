"""Models get other names everywhere, or a line that says why not."""

import pandas as pd
import pytest

from reports.rename import read_names, renamed
from robust_eval.errors import ConfigError
from robust_eval.results.load import Loaded


def loaded(*models):
    return Loaded(pd.DataFrame({"model": list(models), "value": range(len(models))}), ())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.toml", 'erm = "Baseline"\n"mix up" = "Mixup [1]"\n'),
        ("names.csv", "old,new\nerm,Baseline\nmix up, Mixup [1]\n"),
    ],
)
def test_names_are_read_from_toml_and_csv(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path / name) == {"erm": "Baseline", "mix up": "Mixup [1]"}


def test_the_tables_carry_the_new_names_and_the_others_stay():
    found = renamed(loaded("erm", "mixup"), {"erm": "Baseline"})
    assert list(found.results["model"]) == ["Baseline", "mixup"]


def test_two_names_may_be_exchanged():
    assert list(renamed(loaded("a", "b"), {"a": "b", "b": "a"}).results["model"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"emr": "Baseline"}, r"no model is called 'emr' \(did you mean 'erm'\?\)"),
        ({"erm": "X", "mixup": "X"}, "'erm' and 'mixup' would both be called 'X'"),
        ({"erm": "mixup"}, "'erm' and 'mixup' would both be called 'mixup'"),
    ],
)
def test_names_that_are_not_there_or_taken_are_refused(names, said):
    with pytest.raises(ConfigError, match=said):
        renamed(loaded("erm", "mixup"), names)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("n.toml", "erm = 3", "expected a text as the new name of 'erm'"),
        ("n.toml", "resnet.18 = 'x'", "quote names with dots"),
        ("n.toml", "erm", "is no TOML"),
        ("n.csv", "erm,a\nerm,b", "'erm' is named twice"),
        ("n.csv", "erm,a,b", "line 1: expected old,new, got 3 columns"),
        ("n.csv", "erm, ", "expected a new name of 'erm'"),
    ],
)
def test_a_file_that_names_nothing_is_told_in_a_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_names(tmp_path / name)


def test_a_new_name_cannot_move_the_cursor(tmp_path):
    (tmp_path / "n.toml").write_text(r'erm = "a\u001b[2J"')
    assert read_names(tmp_path / "n.toml") == {"erm": r"a\x1b[2J"}
    with pytest.raises(ConfigError, match="no such file"):
        read_names(tmp_path / "absent.toml")
