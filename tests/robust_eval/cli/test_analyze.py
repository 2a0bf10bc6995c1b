"""``robust-eval analyze``, and what ``evaluate`` compares with other sets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reports  # noqa: F401 - its modules are looked up by name
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.errors import ConfigError
from robust_eval.registry import names
from robust_eval.results.store import Store

STAGED = """
import torch
from robust_eval.models.architectures.small_cnn import SmallNetwork

def staged():
    torch.manual_seed(0)
    return SmallNetwork(2, channels=1, classes=3)
"""
SMALL = tuple(
    word
    for field in ("in_between.pairs=4", "in_between.points=3", "interpolation_angle.batches=2")
    for word in ("--set", field)
)
ALONE = set(names("analysis")) - {"detection", "accuracy_gap", "perfect_order"}
"""What ``all`` asks for without other sets."""


@pytest.fixture
def here(work, monkeypatch):
    Path("staged.py").write_text(STAGED)
    rng = np.random.default_rng(1)
    np.savez("shift.npz", images=rng.random((9, 1, 8, 8), dtype=np.float32), labels=np.arange(9) % 3)
    np.savez("large.npz", images=rng.random((9, 1, 12, 12), dtype=np.float32), labels=np.arange(9) % 3)
    monkeypatch.setattr("reports.sections.analyses.drawing", lambda _: None)
    return ("analyze", "--arch", "staged.py:staged", "--data", "data.npz", "--out", "out")


def looked(folder="out"):
    records = [r for r in Store(Path(folder)).records() if r.labels["family"] == "analysis"]
    return {(r.labels["perturbation"], r.labels.get("other")): r for r in records}


def test_everything_is_looked_at_and_told_in_the_terminal(here, done):
    out = done(*here, *SMALL, "--other", "uniform,shift.npz")
    found = looked()
    alone = [(name, None) for name in ALONE]
    assert set(found) == {
        *alone,
        ("detection", "uniform"),
        ("detection", "shift"),
        ("accuracy_gap", "shift"),
    }
    for word in (
        "weight norm stem",
        "AUROC energy",
        "accuracy gap",
        "alpha patchup soft",
        "miss rate halfway",
    ):
        assert word in out
    assert found["in_between", None].spec["pool"] is not None
    assert "## Detection" in Path("out/report/table.md").read_text()
    # the same again finds the records
    assert f"{len(found) + 1} have a record" in done(*here, *SMALL, "--other", "uniform,shift.npz")


def test_without_other_sets_all_is_what_needs_none(here, done):
    done(*here, *SMALL)
    assert {name for name, _ in looked()} == ALONE


def test_some_are_chosen_by_name_and_set_by_field(here, done):
    done(*here, "--analyses", "weight_norm,interpolation_angle", "--set", "interpolation_angle.layer=stage1")
    found = looked()
    assert {name for name, _ in found} == {"weight_norm", "interpolation_angle"}
    assert found["interpolation_angle", None].labels["params"]["layer"] == "stage1"
    assert found["interpolation_angle", None].labels["plot"]["x"] == "alpha"


def test_images_of_another_size_are_resized_only_if_asked(here, cli):
    asked = ("--analyses", "detection", "--other", "large.npz")
    outcome = cli(*here, *asked)
    assert outcome.code == 2
    assert "detection: large.npz: expected other images of 1x8x8" in outcome.err and "--resize" in outcome.err
    assert cli(*here, *asked, "--resize").code == 0 and ("detection", "large") in looked()


def test_evaluate_takes_other_sets_as_options(here, done):
    out = done(
        *("evaluate", *here[1:], "--attacks", "none", "--checks", "off"),
        *("--ood", "uniform,gaussian", "--shift", "shift.npz"),
    )
    assert set(looked()) == {("detection", "uniform"), ("detection", "gaussian"), ("accuracy_gap", "shift")}
    assert "accuracy gap" in out and "AUROC energy" in out


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--analyses", "weight_nrm"), "unknown analysis 'weight_nrm' (did you mean 'weight_norm'?)"),
        (("--analyses", "detection"), "analysis 'detection': expected another set of images to compare with"),
        (("--analyses", "none"), "--analyses: expected at least one name, or all, got none"),
        (("--other", "nothing.npz"), "no file nothing.npz"),
        (("--set", "in_between.points=4"), "points: expected an odd number, so that 1/2 is among"),
    ],
)
def test_bad_input_gets_one_clear_line(here, cli, options, line):
    outcome = cli(*here, *options)
    assert outcome.code == 2 and line in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_of_a_network_without_stages_all_is_what_needs_none_and_the_rest_is_named(here, cli, done):
    plain = ("analyze", "--arch", "net.py:make", *here[3:])
    out = done(*plain, *SMALL)
    assert out.startswith(
        "left out, since the network has no stages (an attribute 'stages'): activation_magnitude, "
    )
    assert {name for name, _ in looked()} == {"weight_norm", "in_between"}
    outcome = cli(*plain, "--analyses", "activation_magnitude")
    assert outcome.code == 2 and "activation_magnitude: expected a network in stages" in outcome.err


def test_what_cannot_be_looked_at_is_told_before_the_run(here, cli):
    images = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
    np.savez("other_classes.npz", images=images, labels=np.arange(4) + 2)
    options = [
        (
            ("--analyses", "accuracy_gap", "--other", "other_classes.npz"),
            "labels in 0..2, the outputs of the model",
        ),
        (("--analyses", "accuracy_gap", "--other", "uniform"), "got uniform noise, which has no labels"),
        (("--set", "interpolation_angle.layer=stage9"), "layer: expected one of stem, stage1"),
        (("--resize",), "--resize: expected sets to resize (--other), got none"),
        (("--other", " ,"), "--other: expected sets, files or folders"),
    ]
    for option, line in options:
        outcome = cli(*here, *option)
        assert outcome.code == 2 and line in outcome.err and not Path("out").exists()
        assert len(outcome.err.strip().splitlines()) == 1


def test_a_layer_is_judged_before_a_network_is_trained(here):
    tables = {"data": {"name": "data.npz"}, "analysis": [{"name": "interpolation_angle", "layer": "stage9"}]}
    recipe = {"regularizer": "erm", "architecture": {"name": "small_cnn", "width": 2}}
    with pytest.raises(ConfigError, match="layer: expected one of stem"):
        plan(parse({**tables, "train": [recipe]}, where="test", folder=Path.cwd()))


def test_sets_of_one_name_are_told_apart_by_their_folders(here, done):
    Path("two").mkdir()
    rng = np.random.default_rng(3)
    np.savez("two/shift.npz", images=rng.random((9, 1, 8, 8), dtype=np.float32), labels=np.arange(9) % 3)
    done(*here, "--analyses", "detection", "--other", "shift.npz,two/shift.npz")
    assert {other for _, other in looked()} == {f"{Path.cwd().name}/shift", "two/shift"}


def test_detection_takes_images_without_labels_and_the_gap_does_not(here, cli, done):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
    np.savez("bare.npz", images=pixels)
    Path("flat").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image[0]).save(f"flat/{i}.png")
    done(*here, "--analyses", "detection", "--other", "bare.npz,flat")
    found = looked()
    values = [{m.metric: m.value for m in found["detection", name].summary} for name in ("bare", "flat")]
    assert values[0] == pytest.approx(values[1]), "the same images, in another order"
    assert cli(*here, "--analyses", "accuracy_gap", "--other", "bare.npz").code == 2


def test_analyses_are_listed(done):
    for word in ("analysis", "analyses"):
        out = done("list", word)
        assert out.startswith("analysis:\n") and all(f"  {name}(" in out for name in names("analysis"))
    assert "Zhang" in done("list", "analyses", "--long")


UNTRAINED = """
name = "orders"
[data]
name = "data.npz"
[[model]]
architecture = "plain_cnn"
seed = 3
[[analysis]]
name = "perfect_order"
per_class = 4
batch_size = {batch_size}
clusters = 2
epochs = {epochs}
lr = 0.5
"""


def test_every_order_is_an_experiment_on_a_network_that_was_not_trained(work, done, undrawn):
    Path("orders.toml").write_text(UNTRAINED.format(batch_size=4, epochs=2))
    done("run", "orders.toml", "--out", "out")
    found = looked()["perfect_order", None]
    assert len(found.rows) == 2 + 2 * 2 and found.labels["model"] == "plain_cnn"
    assert "## Perfect order, epoch by epoch" in Path("out/report/table.md").read_text()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"batch_size": 1, "epochs": 1},
            "8! = 40,320 orders and 40,320 networks to train in 1 epoch; take a larger batch_size",
        ),
        ({"batch_size": 3, "epochs": 1}, "expected a batch_size that divides the 8 training images"),
    ],
)
def test_batches_that_make_no_sense_are_one_line_and_nothing_is_written(work, cli, fields, said):
    Path("orders.toml").write_text(UNTRAINED.format(**fields))
    outcome = cli("run", "orders.toml", "--out", "out")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and said in outcome.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("per_class = 4", "per_class = 10", "at least 11 training images of class 0 (10 to train on and one"),
        ("plain_cnn", "small_cnn", "got SmallNetwork with BatchNorm2d; take one such as plain_cnn"),
        ("seed = 3", "", "expected a checkpoint for plain_cnn, got none"),
        (
            "seed = 3",
            'seed = 3\ncheckpoint = "x.pt"',
            "expected a checkpoint or the seed of weights to draw, got both",
        ),
        (
            '"plain_cnn"',
            '"net.py:make"',
            "expected the name of an architecture to draw weights for, got 'net.py:make'",
        ),
        ("data.npz", "bare.npz", "perfect_order: expected training images, got none"),
    ],
)
def test_what_every_order_cannot_be_done_with_is_one_line_and_nothing_is_written(work, cli, old, new, said):
    Path("orders.toml").write_text(UNTRAINED.format(batch_size=4, epochs=1).replace(old, new))
    outcome = cli("run", "orders.toml", "--out", "out")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and said in outcome.err, outcome
    assert not Path("out").exists()
