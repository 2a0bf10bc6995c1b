"""Every order of a few batches, epoch after epoch: counts, selections, and what cannot be done."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng
from robust_eval.analyses.perfect_order import PerfectOrder
from robust_eval.errors import ConfigError, DataError
from robust_eval.methods import Batch
from robust_eval.models.architectures.plain_cnn import PlainNetwork
from robust_eval.registry import build

TINY = {"per_class": 3, "batch_size": 2, "epochs": 3, "clusters": 2, "lr": 0.5, "held_out": 4}


def tiny(**fields):
    return PerfectOrder(**(TINY | fields))


def plain(classes=3):
    torch.manual_seed(0)
    return PlainNetwork(2, channels=1, classes=classes)


def batch(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 3, 3)


IMAGES, TRAINING = batch(15, 1), batch(30, 2)


def found(analysis, network=None, *, images=IMAGES, training=TRAINING, seed=0):
    model = Classifier(plain() if network is None else network, accelerate=False, batch_size=8)
    return analysis.look(
        model, images, other=None, training=training, rng=Rng(seed).for_batch(len(images.x)).child("analysis")
    )


def test_so_many_networks_are_trained_as_the_formula_says():
    rows = found(tiny())
    assert len(rows) == 6 + 2 * 6 * 2
    assert rows.groupby("epoch").size().tolist() == [6, 12, 12]
    assert not rows.duplicated(["epoch", "start", "order"]).any()
    assert set(rows["order"]) == {"012", "021", "102", "120", "201", "210"}


def test_at_a_rate_of_zero_all_orders_are_equal_and_one_network_stands_for_all():
    rows = found(tiny(lr=0.0))
    assert rows.groupby("epoch").size().tolist() == [6, 6, 6]
    for column in ("loss", "accuracy", "selection_loss", "selection_accuracy"):
        assert rows[column].nunique() == 1


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    first = found(tiny())
    pd.testing.assert_frame_equal(first, found(tiny()), check_exact=True)
    assert not np.array_equal(first["loss"], found(tiny(), seed=1)["loss"])


def test_the_numbers_are_those_of_the_images_of_the_classes():
    rows = found(tiny(epochs=1, lr=0.0))
    kept = IMAGES.y < 2
    with torch.no_grad():
        logits = plain()(IMAGES.x[kept])
    loss = nn.functional.cross_entropy(logits, IMAGES.y[kept]).item()
    assert rows["loss"].iloc[0] == pytest.approx(loss, rel=1e-5)
    right = (logits.argmax(1) == IMAGES.y[kept]).double().mean().item()
    assert rows["accuracy"].iloc[0] == pytest.approx(right)
    assert set(rows["n"]) == {10} and set(rows["n_selection"]) == {8}


@pytest.mark.parametrize("reference", ["validation", "test"])
def test_an_epoch_goes_on_with_the_networks_nearest_to_the_centres_of_the_reference(reference):
    rows = found(tiny(reference=reference))
    for _, same in rows[rows["epoch"] < 3].groupby("epoch"):
        for _, cluster in same.groupby("cluster"):
            chosen = cluster[cluster["chosen"] == 1]
            centre = cluster["selection_loss"].mean()
            nearest = (cluster["selection_loss"] - centre).abs().idxmin()
            assert list(chosen.index) == [nearest]
    assert not rows.loc[rows["epoch"] == 3, "chosen"].any()
    same_images = np.array_equal(rows["selection_loss"], rows["loss"])
    assert same_images == (reference == "test")


def test_the_test_images_decide_nothing_unless_they_are_the_reference():
    other = IMAGES._replace(y=torch.tensor([1, 0, 2])[IMAGES.y])
    for reference, same in (("validation", True), ("test", False)):
        first, second = (found(tiny(reference=reference), images=images) for images in (IMAGES, other))
        trained = [
            rows[["start", "order", "selection_loss", "cluster", "chosen"]] for rows in (first, second)
        ]
        assert trained[0].equals(trained[1]) == same


def test_no_image_is_both_trained_on_and_selected_by():
    analysis = tiny(per_class=5, batch_size=2, held_out=99, clusters=2)
    inside, kept = analysis._drawn(TRAINING.y, Rng(0))
    assert not set(inside.tolist()) & set(kept.tolist())
    assert len(inside) == 10 and len(kept) == 10  # all there are: 10 of each class
    assert set(TRAINING.y[torch.cat([inside, kept])].tolist()) == {0, 1}


def test_the_summary_is_about_the_last_epoch():
    rows = found(tiny())
    last = rows[rows["epoch"] == 3]
    numbers = {m.metric: (m.value, m.n) for m in tiny().summary(rows)}
    assert numbers["accuracy_min_last_epoch"] == (last["accuracy"].min(), 10)
    assert numbers["accuracy_mean_last_epoch"] == (pytest.approx(last["accuracy"].mean()), 10)
    assert numbers["accuracy_max_last_epoch"] == (last["accuracy"].max(), 10)
    assert (
        numbers["loss_min_last_epoch"][0] == last["loss"].min()
        and numbers["loss_max_last_epoch"][0] == last["loss"].max()
    )


def test_the_defaults_are_those_of_the_thesis():
    assert PerfectOrder().cost(0, 10).backwards == 145 * 1956 * 8
    assert PerfectOrder(held_out=1, reference="test").cost(1, 10).forwards == 104_400 + 145 * 1956 * 8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"batch_size": 6},
            r"expected 2 to 7 batches, got 8, which have 8! = 40,320 orders and 5,846,400 networks to train in 13 "
            "epochs; take a larger batch_size",
        ),
        ({"batch_size": 1}, "got 48, which have 48! orders, more than anybody can train"),
        ({"batch_size": 48}, "expected 2 to 7 batches, got 1; take a smaller batch_size"),
        (
            {"batch_size": 7},
            r"expected a batch_size that divides the 48 training images \(24 of each of 2 classes\), got 7",
        ),
        ({"classes": [1, 1]}, r"expected two different classes or more, got \[1, 1\]"),
        ({"classes": [3]}, "expected two different classes or more"),
        ({"batch_size": 24}, "expected at most 2 clusters, the orders of 2 batches, got 12"),
        ({"lr": -1}, "lr: expected >= 0, got -1"),
        ({"reference": "training"}, "expected 'validation' or 'test', got 'training'"),
    ],
)
def test_fields_that_make_no_sense_are_refused_in_one_line(fields, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build("analysis", "perfect_order", fields)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.BatchNorm2d(1), "BatchNorm2d"),
        (nn.Dropout(), "Dropout"),
        (nn.InstanceNorm2d(1, track_running_stats=True), "InstanceNorm2d"),
    ],
)
def test_a_network_that_is_another_one_in_training_is_refused(layer, name):
    network = nn.Sequential(layer, plain())
    assert f"got Sequential with {name}; take one such as plain_cnn" in tiny().misfit(network)
    with pytest.raises(DataError, match="without batch normalisation and dropout"):
        found(tiny(), network)


def test_a_network_whose_copies_do_not_fit_is_refused_and_a_small_one_is_not():
    large = nn.Sequential(nn.Flatten(), nn.Linear(64, 10_000))
    assert "got 8,640 copies of Sequential with 650,000 weights each, 20.9 GiB" in PerfectOrder().misfit(
        large
    )
    assert tiny().misfit(large) is None and PerfectOrder().misfit(plain()) is None
    assert tiny().misfit(nn.Sequential(nn.GroupNorm(1, 1), plain())) is None


def test_missing_images_are_told_with_how_many_there_are():
    assert tiny().lacks(IMAGES.y, TRAINING.y) is None
    assert "expected training images, got none" in tiny().lacks(IMAGES.y, None)
    few = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    assert (
        "at least 4 training images of class 1 (3 to train on and one to select by), got 3"
        in tiny().lacks(IMAGES.y, few)
    )
    assert tiny(reference="test").lacks(IMAGES.y, few) is None
    assert "expected test images of class 1, got none" in tiny().lacks(few[:4], TRAINING.y)


def test_losses_that_are_not_finite_are_told():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.constant_(network[1].weight, 3e38)
    with pytest.raises(DataError, match=r"finite losses, got 6 of 6 networks .* epoch 1; give a smaller lr"):
        found(tiny(), network)


def test_a_class_that_the_network_has_no_output_for_is_told():
    with pytest.raises(DataError, match=r"expected classes in 0\.\.1, the outputs of the model, got 2"):
        found(tiny(classes=(0, 2)), plain(classes=2))
