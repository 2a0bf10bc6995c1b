"""Training on images that stay in their files."""

import threading
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from PIL import Image

from robust_eval import machine
from robust_eval.data import open_source
from robust_eval.data._streamed import Streamed
from robust_eval.errors import DataError
from robust_eval.models.recipe import Journal
from robust_eval.rng import Rng
from trainers import loop, train
from trainers.regularizers.erm import ERM
from trainers.regularizers.gradual_cascading_sum import GradualCascadingSum
from trainers.watch import accuracy, measure


@pytest.fixture
def root(tmp_path, digits):
    """Digits as files: 16 of each of four classes."""
    for label in range(4):
        (tmp_path / f"set/train/{label}").mkdir(parents=True)
        for i, image in enumerate(digits.images[digits.labels == label][:16]):
            Image.fromarray(image[0].numpy()).save(tmp_path / f"set/train/{label}/{i}.png")
    return tmp_path / "set"


@pytest.fixture
def both(root, monkeypatch):
    held = open_source(str(root)).train()
    monkeypatch.setattr(machine, "available", lambda device: 100)
    streamed = open_source(str(root)).train()
    assert isinstance(streamed.images, Streamed) and isinstance(held.images, torch.Tensor)
    return held, streamed


def run(recipe, examples, journal=Journal(), report=lambda *_: None):  # noqa: B008 - a named tuple
    return train(recipe, examples, device="cpu", report=report, journal=journal)


def same_weights(first, second):
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


FIELDS = {"epochs": 2, "batch_size": 8, "validation": 0.25, "flip": True}


@pytest.mark.parametrize("crop", [1, "resized"])
@pytest.mark.parametrize("regularizer", [ERM(), GradualCascadingSum(k=2)], ids=["erm", "stages"])
def test_streamed_and_in_memory_trainings_give_the_same_weights_and_rows(recipe, both, regularizer, crop):
    held, streamed = (run(recipe(regularizer, **FIELDS, crop=crop), each) for each in both)
    assert same_weights(held, streamed)
    assert held.history == streamed.history


def test_a_streamed_training_that_was_killed_goes_on_to_the_same_weights(recipe, both, tmp_path):
    held, streamed = both
    made = recipe(ERM(), **FIELDS)

    def die(done, text):
        if done > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(made, streamed, Journal(tmp_path / "journal"), die)
    assert (tmp_path / "journal/state.pt").exists()
    assert same_weights(run(made, streamed, Journal(tmp_path / "journal")), run(made, held))


def test_a_training_may_go_on_where_there_is_more_memory(recipe, both, tmp_path):
    held, streamed = both

    def die(done, text):
        if done > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe(ERM(), **FIELDS), streamed, Journal(tmp_path / "journal"), die)
    resumed = run(recipe(ERM(), **FIELDS), held, Journal(tmp_path / "journal"))
    assert same_weights(resumed, run(recipe(ERM(), **FIELDS), held))


def test_a_broken_file_stops_training_in_one_line_and_leaves_no_thread(recipe, both, root):
    _, streamed = both
    (root / "train/2/7.png").write_bytes(b"torn")
    before = threading.active_count()
    with pytest.raises(DataError, match=r"2/7\.png is no image that can be read; remove it") as caught:
        run(recipe(ERM(), **FIELDS), streamed)
    assert "\n" not in str(caught.value)
    del caught
    assert threading.active_count() == before


@pytest.fixture
def most(monkeypatch):
    """The numbers of images asked for at a time."""
    asked = []
    begin = Streamed._begin

    def counting(self, which, pool):
        batch = begin(self, which, pool)
        asked.append(len(batch.images))
        return batch

    monkeypatch.setattr(Streamed, "_begin", counting)
    return asked


def test_training_asks_for_a_batch_at_a_time(recipe, both, most, monkeypatch):
    _, streamed = both
    measured = loop.measure
    monkeypatch.setattr(loop, "measure", lambda *args, **kw: (most.append("watch"), measured(*args, **kw))[1])
    assert streamed.fingerprint
    most.clear()
    run(recipe(ERM(), **FIELDS), streamed)
    before = most[: most.index("watch")]
    assert before and set(before) == {8}


@pytest.mark.parametrize("n", [40, 1100])
def test_accuracies_are_measured_on_a_few_hundred_images_at_a_time(both, most, architecture, n):
    held, streamed = both
    network = architecture(width=4).build(channels=1, classes=4)
    some = torch.arange(n) % 64
    found = measure(network, streamed[some], streamed[some], attack=False, rng=Rng(0))
    assert max(most) <= 512 and sum(most) == 2 * n
    assert found["train_accuracy"] == found["validation_accuracy"] == accuracy(network, held[some])


class Moved(torch.Tensor):
    """Notes how many images move to a device at a time."""

    log: ClassVar[list[int]] = []

    def to(self, *args, **kwargs):
        if self.ndim == 4:
            self.log.append(len(self))
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize(("room", "at_once"), [(1.9, 16), (2, 48)])
def test_images_that_would_take_half_of_the_device_move_a_batch_at_a_time(
    recipe, both, monkeypatch, room, at_once
):
    held, _ = both
    part = held.images.nbytes * 3 // 4
    monkeypatch.setattr(loop, "available", lambda place: int(room * part))
    Moved.log.clear()
    watched = replace(held, images=held.images.as_subclass(Moved))
    found = run(recipe(ERM(), **FIELDS), watched)
    # 48 are trained on, 16 held out and looked at as one batch
    assert max(Moved.log) == at_once
    assert same_weights(found, run(recipe(ERM(), **FIELDS), held))
