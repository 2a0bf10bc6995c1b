"""Two sizes of one experiment file: what the full one changes, and what a run folder keeps of it."""

import tomllib

import pytest

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401
from robust_eval.config.experiment import parse, read
from robust_eval.config.plan import plan
from robust_eval.config.scale import note_changes, scaled
from robust_eval.errors import ConfigError

FILE = """
name = "two"
[data]
name = "digits"
n = 5
per_class = 9
[recipe]
architecture = "$network"
epochs = 1
flip = true
[values]
few = 4
network = { name = "small_cnn", width = 2 }
[scale.full.values]
few = 8
[scale.full.data]
name = "digits"
n = 7
[scale.full.recipe]
epochs = 3
[paper]
title = "A paper"
table = "table 1"
data = "digits"
reported = [{ model = "net", value = 5.0 }]
[[train]]
name = "net"
regularizer = "erm"
data = { per_class = "$few" }
"""


def tables(scale=None):
    return scaled(tomllib.loads(FILE), scale, where="two")


def test_the_file_itself_is_the_small_size_and_values_are_put_in():
    small = tables()
    assert small["recipe"]["epochs"] == 1 and small["data"]["per_class"] == 9
    assert small["recipe"]["architecture"] == {"name": "small_cnn", "width": 2}
    assert small["train"][0]["data"] == {"per_class": 4}
    assert small["paper"]["scale"] == "small" and not {"scale", "values"} & set(small)


def test_the_full_size_changes_fields_of_recipe_and_values_and_takes_data_as_a_whole():
    full = tables("full")
    assert full["recipe"] == {"architecture": {"name": "small_cnn", "width": 2}, "epochs": 3, "flip": True}
    assert full["data"] == {"name": "digits", "n": 7}
    assert full["train"][0]["data"] == {"per_class": 8}
    assert full["paper"]["scale"] == "full"


def test_what_comes_out_reads_back_the_same_and_keeps_its_size(tmp_path):
    experiment = parse(tables("full"), where="two", folder=tmp_path)
    again = scaled(experiment.tables(), None, where="run folder")
    assert parse(again, where="two", folder=tmp_path).tables() == experiment.tables()
    assert scaled(experiment.tables(), "full", where="run folder") == again
    with pytest.raises(ConfigError, match="--scale small: it was made at --scale full; leave --scale out"):
        scaled(experiment.tables(), "small", where="run folder")


def test_a_model_is_trained_on_its_own_number_of_images(tmp_path):
    more = tables() | {"train": [*tables()["train"], {"name": "other", "regularizer": "erm"}]}
    cells = plan(parse(more, where="two", folder=tmp_path))
    assert {cell.model.name: len(cell.model.examples) for cell in cells} == {"net": 40, "other": 90}


def test_the_two_sizes_have_no_key_in_common(tmp_path):
    keys = [{c.key for c in plan(parse(tables(s), where="two", folder=tmp_path))} for s in ("small", "full")]
    assert not keys[0] & keys[1]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"$few"', '"$fiew"', r"\$fiew: expected a name of \[values\], one of few, network"),
        (
            "[scale.full.values]\nfew = 8",
            "[scale.huge.values]\nfew = 8",
            "expected tables small and full, got 'huge'",
        ),
        ("{ per_class = ", "{ perclass = ", "unknown field 'perclass'"),
        ('{ per_class = "$few" }', "7", "data: expected a table such as"),
        ('"$few"', '"many"', "per_class: expected a whole number"),
        ("value = 5.0", "value = nan", "paper: reported 1: expected a finite number, got nan"),
        ('table = "table 1"', "", "field 'table' is missing"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(old, new, message, tmp_path):
    assert old in FILE
    with pytest.raises(ConfigError, match=message):
        found = scaled(tomllib.loads(FILE.replace(old, new)), None, where="two")
        parse(found, where="two", folder=tmp_path)


def test_a_dollar_is_a_dollar_where_a_file_has_no_values():
    assert scaled({"name": "$x"}, None, where="two") == {"name": "$x"}


@pytest.mark.parametrize(
    "scale, message",
    [("full", "it has one size"), ("ful", "expected small or full, got 'ful' .did you mean 'full'.")],
)
def test_a_size_that_is_not_there_is_refused(scale, message):
    with pytest.raises(ConfigError, match=message):
        read("quickstart", scale=scale)


def test_options_that_change_a_papers_experiment_are_written_down():
    changed = read("mixup_cifar10", data="digits", fields={"recipe": {"epochs": 1}})
    assert changed.frame.paper is not None
    assert changed.frame.paper.changed == ("data.name", "recipe.epochs")
    plain = {"name": "x"}
    note_changes(plain, ["recipe.epochs"])
    assert plain == {"name": "x"}
