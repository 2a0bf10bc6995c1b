"""Subsets and label noise: what is changed, what is not, and that a record's key knows it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import trainers  # noqa: F401 - registers the methods
from robust_eval.config.experiment import parse
from robust_eval.config.plan import models, plan
from robust_eval.data import Examples, open_source
from robust_eval.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
COUNTS = (40, 25, 60)
LABELS = RNG.permutation(np.repeat(np.arange(3), COUNTS))
# each image holds its own number, so that it can be told again
IMAGES = np.arange(len(LABELS), dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)


@pytest.fixture
def path(tmp_path):
    np.savez(
        tmp_path / "set.npz",
        train_images=IMAGES,
        train_labels=LABELS,
        test_images=255 - IMAGES[:9],
        test_labels=LABELS[:9],
    )
    return str(tmp_path / "set.npz")


def numbers(examples):
    return examples.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("per_class", [1, 7, 25])
def test_a_subset_has_equally_many_images_of_each_class_with_their_own_labels(path, per_class):
    found = open_source(path, per_class=per_class).train()
    assert found.labels.bincount().tolist() == [per_class] * 3
    assert found.labels.tolist() == [LABELS[i] for i in numbers(found)]
    assert len(set(numbers(found))) == len(found) and found.classes == 3
    assert found.true_labels is None and found.corrupted is None


def test_a_smaller_subset_is_part_of_a_larger_one(path):
    parts = [set(numbers(open_source(path, per_class=k, seed=4).train())) for k in (2, 9, 20)]
    assert parts[0] < parts[1] < parts[2]


def test_the_seed_decides_which_images_are_kept(path):
    first, again, other = (numbers(open_source(path, per_class=5, seed=s).train()) for s in (0, 0, 1))
    assert first == again != other


def test_every_image_of_a_class_is_as_likely_to_be_kept(path):
    kept = np.zeros(len(LABELS))
    for seed in range(300):
        kept[numbers(open_source(path, per_class=5, seed=seed).train())] += 1
    for k in range(3):
        assert stats.chisquare(kept[k == LABELS]).pvalue > 1e-4


def test_a_class_with_fewer_images_is_named(path):
    with pytest.raises(DataError) as caught:
        open_source(path, per_class=26).train()
    assert str(caught.value) == (
        "data set: expected at least 26 training images of each class, got 25 of class 1; lower per_class"
    )


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_noise_replaces_exactly_its_share_of_the_labels_by_wrong_ones_if_asked(path, share):
    found = open_source(path, label_noise=share, noisy_labels="other").train()
    assert torch.equal(found.true_labels, torch.from_numpy(LABELS))
    assert torch.equal(found.images[:, 0], torch.from_numpy(IMAGES))
    assert found.corrupted.sum() == round(share * len(LABELS))
    assert found.labels.min() >= 0 and found.labels.max() <= 2


def test_noise_over_all_classes_leaves_one_in_k_of_the_replaced_labels_right(path):
    wrong = [open_source(path, label_noise=0.8, seed=s).train().corrupted.sum().item() for s in range(100)]
    replaced = round(0.8 * len(LABELS))
    assert max(wrong) < replaced
    assert np.mean(wrong) == pytest.approx(replaced * 2 / 3, rel=0.02)


@pytest.mark.parametrize(("kind", "targets"), [("any", 3), ("other", 2)])
def test_new_labels_are_uniform_over_the_classes_they_are_drawn_from(path, kind, targets):
    drawn = np.zeros((3, 3))
    for seed in range(100):
        found = open_source(path, label_noise=1.0, noisy_labels=kind, seed=seed).train()
        np.add.at(drawn, (LABELS, found.labels.numpy()), 1)
    for true in range(3):
        counts = drawn[true] if targets == 3 else np.delete(drawn[true], true)
        assert stats.chisquare(counts).pvalue > 1e-4
        assert targets == 3 or drawn[true, true] == 0


@pytest.mark.parametrize("kind", ["any", "other"])
def test_more_noise_replaces_the_same_labels_by_the_same_ones_and_some_more(path, kind):
    low, high = (open_source(path, label_noise=r, noisy_labels=kind).train() for r in (0.2, 0.5))
    assert torch.equal(high.labels[low.corrupted], low.labels[low.corrupted])
    assert high.corrupted.sum() > low.corrupted.sum()


def test_a_subset_is_taken_by_the_true_labels_and_gets_its_share_of_the_noise(path):
    clean = open_source(path, per_class=20).train()
    found = open_source(path, per_class=20, label_noise=0.5, noisy_labels="other").train()
    assert numbers(found) == numbers(clean) and torch.equal(found.true_labels, clean.labels)
    assert found.corrupted.sum() == 30


def test_test_images_are_never_touched(path):
    plain = open_source(path).test(None)
    for n in (None, 4):
        found = open_source(path, per_class=2, label_noise=1.0, noisy_labels="other").test(n)
        assert torch.equal(found.images, plain.images[:n]) and torch.equal(found.labels, plain.labels[:n])
        assert found.true_labels is None
    assert open_source(path, label_noise=0.5).test(None).fingerprint == plain.fingerprint


def test_neither_subset_nor_noise_leaves_the_source_itself(path):
    assert type(open_source(path, seed=3)) is type(open_source(path))


def test_names_and_cards_tell_what_was_done(path):
    changed = open_source(path, per_class=10, label_noise=0.25, seed=7)
    assert changed.name == "set (training: 10 per class, 25% label noise, seed 7)"
    assert changed.train().source == "set (10 per class, 25% of labels drawn anew from all classes, seed 7)"
    wrong = open_source(path, label_noise=0.25, noisy_labels="other")
    assert wrong.name == "set (training: 25% label noise)"
    assert wrong.train().source == "set (25% of labels replaced by wrong ones, seed 0)"
    assert open_source(path, per_class=3).name == "set (training: 3 per class)"


def test_how_a_set_is_usually_trained_on_does_not_change():
    plain, changed = open_source("cifar100"), open_source("cifar100", per_class=500)
    for usual in ("crop", "flip", "mean", "std"):
        assert getattr(plain, usual) == getattr(changed, usual)
    assert changed.crop == 4 and changed.flip


def test_a_set_without_training_images_has_none_to_change(tmp_path):
    np.savez(tmp_path / "set.npz", x=IMAGES, y=LABELS)
    with pytest.raises(DataError, match="per_class and label_noise are of training images, and it has none"):
        open_source(str(tmp_path / "set.npz"), per_class=2).train()


def test_one_class_has_no_wrong_labels(tmp_path):
    np.savez(tmp_path / "set.npz", train_images=IMAGES, train_labels=0 * LABELS)
    with pytest.raises(DataError, match="at least 2 classes to draw wrong labels from, got 1"):
        open_source(str(tmp_path / "set.npz"), label_noise=0.5, noisy_labels="other").train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 0}, "per_class: expected >= 1, got 0"),
        ({"label_noise": 1.5}, "label_noise: expected <= 1, got 1.5"),
        ({"label_noise": -0.1}, "label_noise: expected >= 0, got -0.1"),
        (
            {"label_noise": 0.1, "noisy_labels": "wrong"},
            "noisy_labels: expected 'any' or 'other', got 'wrong'",
        ),
        ({"per_class": 1, "seed": -1}, "seed: expected >= 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line_by_function_and_file(options, message):
    if options.get("noisy_labels") != "wrong":  # which the tests' type checker refuses before
        with pytest.raises(ConfigError) as caught:
            open_source("digits", **options)
        assert caught.value.problems == [f"data 'digits': {message}"]
    with pytest.raises(ConfigError) as caught:
        experiment(**options)
    assert caught.value.problems == [f"test: data: {message}"]


def test_only_the_files_of_a_subset_are_opened(tmp_path):
    for name in "ab":
        for i in range(10):
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / "train" / name / f"{i}.png")
    found = open_source(str(tmp_path), per_class=3).train()
    everything = open_source(str(tmp_path)).train()
    assert found.labels.bincount().tolist() == [3, 3]
    kept = {(label, image) for label, image in zip(found.labels.tolist(), numbers(found), strict=True)}
    for k, name in enumerate("ab"):
        for i in range(10):
            if (k, i) not in kept:
                (tmp_path / "train" / name / f"{i}.png").write_bytes(b"torn")
    again = open_source(str(tmp_path), per_class=3).train()
    assert again.fingerprint == found.fingerprint
    # the same images as if all had been read first
    chosen = [p for p in zip(everything.labels.tolist(), numbers(everything), strict=True) if p in kept]
    assert chosen == list(zip(found.labels.tolist(), numbers(found), strict=True))


def experiment(**data):
    recipe = {"architecture": {"name": "small_cnn", "width": 4}, "epochs": 1}
    tables = {"data": {"name": "digits", "n": 5} | data, "recipe": recipe, "train": [{"regularizer": "erm"}]}
    return parse(tables, where="test", folder=Path.cwd())


def test_the_key_of_a_record_knows_subset_noise_convention_and_seed():
    options = [
        {},
        {"per_class": 20},
        {"per_class": 20, "seed": 1},
        {"label_noise": 0.2},
        {"label_noise": 0.2, "noisy_labels": "other"},
        {"label_noise": 0.2, "seed": 1},
        {"per_class": 20, "label_noise": 0.2},
    ]
    cells = [plan(experiment(**each))[0] for each in options]
    assert len({cell.key for cell in cells}) == len(options)
    assert len({cell.data.examples.fingerprint for cell in cells}) == 1
    assert cells[-1].labels["data"] == "digits (training: 20 per class, 20% label noise)"


def test_a_set_that_is_not_altered_keeps_its_key():
    assert plan(experiment())[0].key == plan(experiment(label_noise=0.0, seed=5))[0].key


def test_a_card_tells_the_convention_of_the_noise():
    (model,) = models(experiment(label_noise=0.2, per_class=30))
    assert model.examples.source == (
        "digits (30 per class, 20% of labels drawn anew from all classes, seed 0)"
    )


def test_the_effective_experiment_keeps_the_options():
    given = experiment(per_class=20, label_noise=0.2, noisy_labels="other", seed=3)
    tables = json.loads(json.dumps(given.tables()))
    again = parse(tables, where="test", folder=Path.cwd())
    assert plan(again)[0].key == plan(given)[0].key


def test_true_labels_go_with_their_images_and_are_no_part_of_the_fingerprint():
    images, labels = torch.from_numpy(IMAGES)[:, None], torch.from_numpy(LABELS)
    given = Examples(images, labels.flip(0), 3, "set", labels)
    assert given.fingerprint == Examples(images, labels.flip(0), 3).fingerprint
    assert torch.equal(given[5:9].true_labels, labels[5:9])
    assert torch.equal(given.first(7).corrupted, (labels.flip(0) != labels)[:7])
    with pytest.raises(DataError, match="one true label per image, got 125 images and 3 true labels"):
        Examples(images, labels, 3, "set", labels[:3])
