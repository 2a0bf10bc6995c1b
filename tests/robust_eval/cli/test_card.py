"""A report's card repeats what was measured: the same cells, or one line that says why not."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from robust_eval.registry import build

pytestmark = pytest.mark.usefixtures("undrawn")
EXPERIMENT = """
name = "small"
checks = "off"
attack = [{ name = "fgsm", eps = "8/255" }, { name = "deepfool", eps = [0.5, 1.0], steps = 2 }]
corruption = [{ name = "brightness", severity = [2] }]
defense = ["bit_depth"]
[data]
name = "data.npz"
[recipe]
architecture = { name = "small_cnn", width = 2 }
epochs = 1
validation = 0
[[train]]
regularizer = "erm"
seeds = [3]
"""


def keys(folder):
    return sorted(path.stem for path in Path(folder).glob("records/??/*.json"))


def weights(name, seed=0):
    torch.manual_seed(seed)
    network = build("architecture", "small_cnn", {"width": 2}).build(channels=1, classes=3)
    torch.save(network.state_dict(), name)


def evaluate(done, *more, checkpoint="w.pt", out="out"):
    arch = ("--arch", "small_cnn", "--set", "small_cnn.width=2")
    given = ("evaluate", checkpoint, *arch, "--data", "data.npz", "--checks", "off", "--out", out)
    done(*given, "--attacks", "none", *more)


@pytest.fixture
def one_line(cli):
    """Run a command that must be refused in one line, and make nothing."""

    def run(*arguments):
        outcome = cli(*arguments, "--out", "made")
        assert (outcome.code, outcome.out) == (2, ""), outcome
        (line,) = outcome.err.splitlines()
        assert not Path("made").exists()
        return line

    return run


def changed(path, change):
    card = json.loads(Path(path).read_text())
    change(card)
    Path("changed.json").write_text(json.dumps(card))
    return "changed.json"


def test_the_card_of_a_trained_run_measures_the_same_cells_from_any_folder(done, work):
    (work / "small.toml").write_text(EXPERIMENT)
    done("run", "small.toml", "--out", "out")
    (work / "elsewhere").mkdir()
    shutil.copy("out/report/card.json", "elsewhere/card.json")
    done("run", "elsewhere/card.json", "--out", "again")
    assert keys("again") == keys("out") and len(keys("out")) == (1 + 2 + 1) + (1 + 2 + 1 + 1)


def test_the_card_of_a_checkpoint_measures_the_same_cells(done):
    weights("w.pt")
    evaluate(done, "--attacks", "pgd", "--eps", "8/255", "--mean", "0.5", "--std", "0.25")
    (model,) = json.loads(Path("out/report/card.json").read_text())["models"]
    assert model["mean"] == [0.5] and len(model["weights_sha256"]) == 1
    done("run", "out/report/card.json", "--out", "again")
    assert keys("again") == keys("out")


def test_a_card_stands_in_the_place_of_an_experiment_with_other_data(done, work):
    weights("w.pt")
    evaluate(done)
    shutil.copy("data.npz", "other.npz")
    shutil.copy("bare.npz", "data.npz")
    done("run", "out/report/card.json", "--out", "again", "--data", "bare.npz", "--dry-run")


def test_weights_that_are_gone_or_others_are_refused(done, one_line):
    weights("w.pt")
    evaluate(done)
    Path("w.pt").rename("moved.pt")
    assert (
        "w.pt: expected sha256" in (line := one_line("run", "out/report/card.json"))
        and "no such file" in line
    )
    weights("w.pt", seed=1)
    assert "another file" in one_line("run", "out/report/card.json")
    moved = changed(
        "out/report/card.json",
        lambda card: card["runs"][0]["experiment"]["model"][0].update(checkpoint="moved.pt"),
    )
    done("run", moved, "--out", "again")
    assert keys("again") == keys("out")


def test_other_images_under_the_same_name_are_refused(done, one_line):
    weights("w.pt")
    evaluate(done)
    shutil.copy("bare.npz", "data.npz")
    import numpy as np

    np.savez("data.npz", images=np.zeros((12, 1, 8, 8), dtype=np.float32), labels=np.arange(12) % 3)
    assert "gives 0 of its 1 cells here" in one_line("run", "out/report/card.json")


def test_a_run_folder_of_several_experiments_has_a_card_that_says_so(done, one_line):
    weights("w.pt")
    evaluate(done)
    evaluate(done, "--corruptions", "fog", "--n", "7")
    assert "gives 2 of its 3 cells here" in one_line("run", "out/report/card.json")


def test_code_that_a_card_names_is_run_only_where_it_is_allowed(done, own, one_line):
    done(*own, "--attacks", "none")
    line = one_line("run", "out/report/card.json")
    assert "this card would run code" in line and "--allow-imports" in line
    (run,) = json.loads(Path("out/report/card.json").read_text())["runs"]
    assert run["command"] == "robust-eval run card.json --allow-imports"
    done("run", "out/report/card.json", "--allow-imports", "--out", "again")
    assert keys("again") == keys("out")


def test_of_several_runs_one_is_repeated_at_a_time(done, one_line):
    weights("w.pt")
    weights("v.pt", seed=1)
    evaluate(done, out="a")
    evaluate(done, checkpoint="v.pt", out="b")
    done("report", "a", "b", "--out", "both")
    assert one_line("run", "both/card.json").endswith("say which with --of: a, b")
    assert "it has no such run (did you mean 'b'?)" in one_line("run", "both/card.json", "--of", "bb")
    done("run", "both/card.json", "--of", "b", "--out", "again")
    assert keys("again") == keys("b") != keys("a")


def test_records_without_their_experiment_cannot_be_repeated(done, one_line):
    weights("w.pt")
    evaluate(done)
    Path("out/experiment.toml").unlink()
    done("report", "out")
    assert "cannot be repeated: out has no experiment.toml" in one_line("run", "out/report/card.json")
    assert "cannot be repeated from this card" in Path("out/report/card.md").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected the JSON of a report's card"),
        ("[1, 2]", "got other JSON"),
        ('{"a": 1}', "got other JSON"),
        ("[" * 100_000, "too deep"),
        ('{"schema": NaN, "runs": []}', "NaN is no number"),
        ('{"schema": 2, "runs": []}', "expected a card of schema 1, got '2'"),
        ('{"schema": true, "runs": []}', "expected a card of schema 1"),
        ('{"schema": 1, "runs": []}', "asked: field required"),
    ],
)
def test_what_is_no_card_is_one_line(one_line, text, words):
    Path("card.json").write_text(text)
    assert words in one_line("run", "card.json")


def test_what_is_wrong_within_a_card_is_one_line(done, one_line):
    weights("w.pt")
    evaluate(done)
    card = "out/report/card.json"
    assert one_line("run", "gone.json").startswith("error: experiment 'gone.json': no such file")
    assert "cells" in one_line("run", changed(card, lambda c: c["runs"][0].update(cells=3)))
    assert "another form" in one_line(
        "run", changed(card, lambda c: c["runs"][0]["experiment"].update(seed=None))
    )
    assert "expected the path of its checkpoint" in one_line(
        "run", changed(card, lambda c: c["runs"][0]["checkpoints"][0].update(model=4))
    )
    assert "--of 'x': expected a card.json" in one_line("run", "quickstart", "--of", "x")
