"""Images that do not fit into memory: the same pixels as of those that do, a few of them at a time."""

import pickle
import shutil
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import robust_eval
from robust_eval import machine
from robust_eval.data import Examples, InTurn, _examples, _files, _streamed, open_source
from robust_eval.data._streamed import AHEAD, Streamed
from robust_eval.errors import DataError
from robust_eval.evaluation import prepared

RNG = np.random.default_rng(0)
SIZE = 8


@pytest.fixture
def root(tmp_path):
    """Twelve images of each of two classes, of any size, a third of them grey."""
    for name in "ab":
        (tmp_path / "set/train" / name).mkdir(parents=True)
        for i in range(12):
            h, w = RNG.integers(9, 20, 2)
            pixels = RNG.integers(0, 256, (h, w) if i % 3 == 0 else (h, w, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set/train" / name / f"{i}.png")
    shutil.copytree(tmp_path / "set/train", tmp_path / "set/test")
    return tmp_path / "set"


@pytest.fixture
def scarce(monkeypatch):
    """Leave so little memory that nothing fits."""
    monkeypatch.setattr(machine, "available", lambda device: 100)


def train(root, **options):
    return open_source(str(root), size=SIZE, **options).train()


@pytest.fixture
def both(root, monkeypatch):
    """The training images in memory, and streamed."""
    held = train(root)
    monkeypatch.setattr(machine, "available", lambda device: 100)
    return held, train(root)


@pytest.mark.parametrize(
    "which",
    [slice(None), slice(3, 9), slice(0), torch.tensor([20, 0, 7, 7]), torch.arange(24) % 5 == 0],
    ids=["all", "slice", "none", "positions", "mask"],
)
def test_streamed_images_are_the_ones_that_would_lie_in_memory(both, which):
    held, streamed = both
    assert isinstance(held.images, torch.Tensor) and isinstance(streamed.images, Streamed)
    assert torch.equal(streamed.pixels(which), held.pixels(which))
    assert torch.equal(streamed.images[which], held.images[which])


def test_a_streamed_set_tells_what_one_in_memory_tells_without_decoding(both, monkeypatch):
    held, streamed = both
    monkeypatch.setattr(Streamed, "__getitem__", None)
    assert (len(streamed), streamed.shape, streamed.classes) == (len(held), held.shape, held.classes)
    assert streamed.images.shape == held.images.shape and streamed.images.dtype == held.images.dtype
    assert torch.equal(streamed.labels, held.labels) and streamed.source == held.source


def test_parts_of_a_streamed_set_stay_in_their_files(both):
    held, streamed = both
    some = torch.tensor([3, 11, 4, 20, 9, 0])
    for part, same in ((streamed.first(5), held.first(5)), (streamed[some][1:4], held[some][1:4])):
        assert isinstance(part.images, Streamed)
        assert torch.equal(part.pixels(), same.pixels()) and torch.equal(part.labels, same.labels)


def test_batches_are_the_same_whether_streamed_or_not_and_by_however_many_threads(both, monkeypatch):
    held, streamed = both
    parts = [torch.tensor([i, 23 - i, (7 * i) % 24]) for i in range(12)] + [slice(20, 24)]
    expected = [held.pixels(part) for part in parts]
    assert all(torch.equal(x, y) for x, y in zip(held.batches(parts), expected, strict=True))
    for threads in (1, 2, 16):
        monkeypatch.setattr(_streamed, "decoders", lambda threads=threads: ThreadPoolExecutor(threads))
        assert all(torch.equal(x, y) for x, y in zip(streamed.batches(parts), expected, strict=True))


def test_the_key_of_a_set_does_not_depend_on_the_memory_there_is(both):
    held, streamed = both
    assert streamed.fingerprint == held.fingerprint
    assert streamed[5:9].fingerprint == held[5:9].fingerprint != held.fingerprint


def test_a_million_images_take_the_memory_of_a_few_batches(root, scarce, monkeypatch):
    monkeypatch.setattr(_streamed, "decoders", lambda: ThreadPoolExecutor(2))
    few = open_source(str(root), size=96).train()
    batch, image = 16, 3 * 96 * 96
    many = few[torch.arange(50 * batch) % len(few)]
    few.pixels()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for x in many.batches(torch.arange(len(many)).split(batch)):
            assert len(x) == batch
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # files that are being decoded take a little more
    assert (peak - before) / (batch * image) < AHEAD + 2.9


def test_no_more_is_decoded_than_the_next_batches(both, monkeypatch):
    _, streamed = both
    begun = []
    begin = Streamed._begin
    monkeypatch.setattr(
        Streamed, "_begin", lambda self, which, pool: (begun.append(1), begin(self, which, pool))[1]
    )
    for taken, _ in enumerate(streamed.batches([slice(i, i + 2) for i in range(0, 24, 2)]), start=1):
        assert len(begun) == min(taken + AHEAD, 12)


def test_an_iterator_that_is_dropped_leaves_no_thread_behind(both):
    _, streamed = both
    before = threading.active_count()
    batches = streamed.batches([slice(i, i + 2) for i in range(0, 24, 2)])
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_a_broken_file_in_the_middle_is_named_in_one_line(both, root):
    _, streamed = both
    path = root / "train/b/5.png"
    path.write_bytes(path.read_bytes()[:100])
    before = threading.active_count()
    with pytest.raises(DataError, match=r"b/5\.png is no image that can be read; remove it") as caught:
        list(streamed.batches([slice(i, i + 4) for i in range(0, 24, 4)]))
    assert "\n" not in str(caught.value) and threading.active_count() == before


def test_a_file_of_another_shape_is_named(tmp_path, scarce):
    for i, side in enumerate((4, 4, 5)):
        (tmp_path / "train/a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((side, 4, 3), np.uint8)).save(tmp_path / "train/a" / f"{i}.png")
    found = open_source(str(tmp_path)).train()
    with pytest.raises(DataError, match=r"expected images of 3x\d+x4, got \S+ of 3x\d+x4; .*--size"):
        found.pixels()


@pytest.mark.parametrize("colours", [(), (0,), (7,), (0, 7)])
def test_a_streamed_set_is_grey_only_if_all_of_its_files_are(tmp_path, monkeypatch, colours):
    (tmp_path / "train/a").mkdir(parents=True)
    for i in range(8):
        shape = (4, 4, 3) if i in colours else (4, 4)
        Image.fromarray(np.full(shape, 9 * i, np.uint8)).save(tmp_path / "train/a" / f"{i}.png")
    held = open_source(str(tmp_path)).train()
    monkeypatch.setattr(machine, "available", lambda device: 100)
    streamed = open_source(str(tmp_path)).train()
    assert streamed.shape == held.shape == (3 if colours else 1, 4, 4)
    assert torch.equal(streamed.pixels(), held.pixels())


def test_sets_are_streamed_when_two_copies_do_not_fit(root, monkeypatch):
    needed = 24 * 3 * SIZE * SIZE
    for free, streamed in ((2 * needed, False), (2 * needed - 1, True), (None, False)):
        monkeypatch.setattr(machine, "available", lambda device, free=free: free)
        assert isinstance(train(root).images, Streamed) == streamed


def test_test_images_that_do_not_fit_stay_in_their_files_and_are_told_by_their_pixels(root, monkeypatch):
    held = open_source(str(root), size=SIZE).test(None)
    monkeypatch.setattr(machine, "available", lambda device: 2 * held.images.numel() - 1)
    streamed = open_source(str(root), size=SIZE).test(None)
    assert isinstance(streamed.images, Streamed) and torch.equal(streamed.pixels(), held.pixels())
    assert streamed.fingerprint == held.fingerprint


def test_parts_in_turn_are_read_once_and_ahead_of_their_turn(both, monkeypatch):
    held, streamed = both
    begun, begin = [], Streamed._begin
    monkeypatch.setattr(
        Streamed, "_begin", lambda self, which, pool: begun.append(which) or begin(self, which, pool)
    )
    parts = [slice(start, start + 4) for start in range(0, 24, 4)]
    turn = InTurn(streamed, parts)
    for i, part in enumerate(parts):
        assert torch.equal(turn.pixels(part), held.pixels(part))
        assert begun == parts[: i + 1 + AHEAD]


def test_parts_out_of_turn_are_the_same_images(both):
    held, streamed = both
    parts = [slice(start, start + 4) for start in range(0, 24, 4)]
    turn = InTurn(streamed, parts)
    for which in (
        parts[0],
        parts[1],
        parts[1],
        parts[5],
        parts[0],
        slice(3, 9),
        torch.tensor([7, 2]),
        parts[1],
    ):
        assert torch.equal(turn.pixels(which), held.pixels(which))


def test_a_pool_that_does_not_fit_is_refused(both):
    held, streamed = both
    with pytest.raises(DataError, match=r"pool .* got 24 of 3x8x8, 0.0 GB; .*per_class.*pool = ") as caught:
        streamed.without(held)
    assert "\n" not in str(caught.value)


def test_subsets_and_noisy_labels_are_streamed_too(root, monkeypatch):
    options = {"per_class": 5, "label_noise": 0.4, "noisy_labels": "other"}
    held = train(root, **options)
    monkeypatch.setattr(machine, "available", lambda device: 100)
    streamed = train(root, **options)
    assert isinstance(streamed.images, Streamed) and len(streamed) == 10
    assert streamed.corrupted.sum() == 4 and torch.equal(streamed.labels, held.labels)
    assert torch.equal(streamed.pixels(), held.pixels()) and streamed.fingerprint == held.fingerprint


def test_a_streamed_set_is_sent_to_another_process(both):
    held, streamed = both
    again = pickle.loads(pickle.dumps(streamed))
    assert torch.equal(again.pixels(), held.pixels()) and again.fingerprint == held.fingerprint


class TestTheFilesOfALargeSet:
    """Their names and sizes stand for the pixels."""

    @pytest.fixture(autouse=True)
    def small_is_large(self, monkeypatch):
        monkeypatch.setattr(_files, "LARGE", 1)

    def test_they_are_hashed_and_not_decoded(self, root, scarce, monkeypatch):
        found = train(root)
        monkeypatch.setattr(Streamed, "_begin", None)
        assert len(found.fingerprint) == 64

    def test_they_are_hashed_in_memory_too(self, both):
        held, streamed = both
        assert held.fingerprint == streamed.fingerprint
        assert held[3:8].fingerprint == streamed[3:8].fingerprint
        pixels = Examples(held.images, held.labels, held.classes)
        assert pixels.fingerprint != held.fingerprint

    def test_the_folder_may_be_called_anything(self, root, tmp_path):
        before = train(root).fingerprint
        root.rename(tmp_path / "moved")
        assert train(tmp_path / "moved").fingerprint == before

    @pytest.mark.parametrize("change", ["size", "name", "gone", "class", "content"])
    def test_a_change_that_shows_changes_the_fingerprint(self, root, change):
        before, path = train(root).fingerprint, root / "train/a/3.png"
        if change == "size":
            Image.fromarray(np.zeros((30, 30), np.uint8)).save(path)
        elif change == "name":
            path.rename(path.with_name("33.png"))
        elif change == "gone":
            path.unlink()
        elif change == "class":
            path.rename(root / "train/b/33.png")
        else:
            # what cannot be seen by the size in bytes
            path.write_bytes(path.read_bytes()[:-1] + b"\0")
        assert (train(root).fingerprint == before) == (change == "content")

    def test_so_do_the_side_the_labels_and_the_part(self, root):
        found = train(root)
        others = [
            open_source(str(root), size=SIZE + 1).train(),
            train(root, label_noise=0.5),
            train(root, per_class=3),
            found[:5],
            found[1:6],
            found[torch.tensor([1, 0])],
            found[torch.tensor([0, 1])],
        ]
        assert len({found.fingerprint, *(each.fingerprint for each in others)}) == 8
        assert found[torch.tensor([0, 1])].fingerprint == found[:2].fingerprint

    def test_those_of_test_images_stand_beside_the_pixels_of_some_which_is_said(
        self, root, monkeypatch, caplog
    ):
        def fingerprint():
            return open_source(str(root), size=SIZE).test(None).fingerprint

        before = fingerprint()
        assert (
            before.endswith("-files") and "24 images" in caplog.text and "pixels of 24 of them" in caplog.text
        )
        assert open_source(str(root), size=SIZE).test(None)[:5].fingerprint.endswith("-files")
        monkeypatch.setattr(_files, "SAMPLED", 3)
        fewer = fingerprint()
        monkeypatch.setattr(machine, "available", lambda device: 100)
        assert fingerprint() == fewer != before
        monkeypatch.setattr(_files, "SAMPLED", 24)
        path = root / "test/a/3.png"
        size = path.stat().st_size
        changed = Image.open(path).convert("L").point(lambda value: 255 - value)
        changed.save(path, compress_level=0)
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        assert fingerprint() != before


def test_what_is_measured_on_streamed_images_is_what_is_measured_on_those_in_memory(root, monkeypatch):
    monkeypatch.setattr(prepared, "VALUES_IN_MEMORY", 5 * 3 * SIZE * SIZE)  # parts of five images
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 2)).eval()

    def measured():
        data = open_source(str(root), size=SIZE).test(None)
        asked = {"attacks": "fgsm", "eps": "4/255", "corruptions": "gaussian_noise", "checks": "off"}
        return type(data.images), robust_eval.evaluate(network, str(root), size=SIZE, **asked).results

    held, numbers = measured()
    monkeypatch.setattr(machine, "available", lambda device: 100)
    streamed, again = measured()
    assert (held, streamed) == (torch.Tensor, Streamed)
    same = ["perturbation", "metric", "value", "n", "key"]
    pd.testing.assert_frame_equal(numbers[same], again[same])


def test_a_pool_is_compared_with_streamed_test_images_a_few_at_a_time(root, monkeypatch):
    pool = train(root)
    monkeypatch.setattr(machine, "available", lambda device: 100)
    test = open_source(str(root), size=SIZE).test(9)
    monkeypatch.setattr(_examples, "AT_ONCE", 4)
    asked, begin = [], Streamed._begin
    monkeypatch.setattr(
        Streamed, "_begin", lambda self, which, pool: asked.append(which) or begin(self, which, pool)
    )
    assert len(pool.without(test)) == len(pool) - 9
    assert asked == [slice(0, 4), slice(4, 8), slice(8, 12)]
