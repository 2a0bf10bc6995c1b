"""Images in: what each kind of source accepts, and what identifies a set."""

import hashlib
import logging
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from robust_eval.data import Examples, as_pixels, open_source
from robust_eval.data.arrays import Arrays
from robust_eval.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(6) % 3


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return open_source(str(tmp_path / "set.npz"))


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("test_images", "test_labels")])
def test_the_accepted_names_of_arrays(tmp_path, names):
    source = npz(tmp_path, **dict(zip(names, (COLOUR, LABELS), strict=True)))
    found = source.test(None)
    assert torch.equal(found.images, torch.from_numpy(COLOUR)) and found.labels.tolist() == LABELS.tolist()
    assert (source.name, found.classes, found.shape, len(found)) == ("set", 3, (3, 8, 8), 6)
    assert source.train() is None


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 2, 3, 1), COLOUR),
        (GREY, GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (COLOUR.astype(np.float32) / 255, COLOUR),
        ((COLOUR / 255).astype(np.float64).transpose(0, 2, 3, 1), COLOUR),
    ],
)
def test_channels_come_first_or_last_and_pixels_are_bytes_or_floats(tmp_path, array, expected):
    found = npz(tmp_path, x=array, y=LABELS.reshape(-1, 1)).test(None)
    assert found.images.is_contiguous() and found.images.dtype in (torch.uint8, torch.float32)
    torch.testing.assert_close(found.pixels(), torch.from_numpy(expected).float() / 255)
    assert found.labels.tolist() == LABELS.tolist()


def test_a_file_with_two_splits_gives_its_training_images(tmp_path):
    source = npz(
        tmp_path, test_images=GREY[:2], test_labels=LABELS[:2], train_images=GREY[2:], train_labels=LABELS[2:]
    )
    assert len(source.test(None)) == 2 and torch.equal(
        source.train().images[:, 0], torch.from_numpy(GREY[2:])
    )


def test_the_first_n_images_are_taken_and_no_more_than_there_are(tmp_path):
    source = npz(tmp_path, x=GREY, y=LABELS)
    assert torch.equal(source.test(4).images, source.test(None).images[:4])
    with pytest.raises(DataError, match="at least 7 images, got 6; lower n"):
        source.test(7)


def test_an_array_file_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.array([object]), y=np.arange(1))
    with pytest.raises(DataError, match="Python objects"):
        Arrays(tmp_path / "set.npz").test(None)


def folder(path, files):
    for name, array in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path / name)
    return open_source(str(path))


def test_a_plain_folder_is_shuffled_and_classes_are_in_alphabetical_order(tmp_path):
    files = {
        f"{name}/{i}.png": np.full((4, 4, 3), 10 * k + i, np.uint8)
        for k, name in enumerate("cab")
        for i in range(8)
    }
    source = folder(tmp_path / "set", files)
    found = source.test(None)
    assert (source.name, found.shape, found.classes) == ("set", (3, 4, 4), 3)
    for image, label in zip(found.images, found.labels, strict=True):
        assert "abc"[int(label)] == "cab"[int(image[0, 0, 0]) // 10]
    first = source.test(10)
    assert torch.equal(first.images, found.images[:10]) and len(set(first.labels.tolist())) == 3
    assert source.train() is None
    with pytest.raises(DataError, match="at least 25 images, got 24; lower n"):
        source.test(25)


@pytest.mark.parametrize("split", ["test", "val"])
def test_the_splits_of_a_folder_number_the_classes_alike(tmp_path, split):
    image = np.zeros((4, 4), np.uint8)
    source = folder(
        tmp_path, {f"train/{n}/1.png": image for n in "abc"} | {f"{split}/{n}/1.png": image for n in "ca"}
    )
    assert sorted(source.test(None).labels.tolist()) == [0, 2]
    assert (source.test(None).classes, source.train().classes) == (3, 3)
    folder(tmp_path, {f"{split}/d/1.png": image})
    with pytest.raises(DataError, match=f"{split} has classes that train has not: d"):
        source.test(None)


def test_a_folder_with_training_images_only_is_refused(tmp_path):
    with pytest.raises(DataError, match="test or val beside train"):
        folder(tmp_path, {"train/a/1.png": np.zeros((4, 4), np.uint8)}).test(None)


def test_grey_images_have_one_channel_unless_others_have_colour(tmp_path):
    grey, colour = np.full((4, 4), 7, np.uint8), np.zeros((4, 4, 3), np.uint8)
    assert folder(tmp_path / "grey", {"a/1.png": grey, "b/2.png": grey}).test(None).shape == (1, 4, 4)
    found = folder(tmp_path / "mixed", {"a/1.png": grey, "b/2.png": colour}).test(None)
    assert found.shape == (3, 4, 4)
    assert found.images[int((found.labels == 0).nonzero())].unique().tolist() == [7]


def test_images_of_several_sizes_need_one(tmp_path):
    folder(tmp_path, {"a/1.png": np.zeros((4, 6, 3), np.uint8), "b/1.jpg": np.zeros((8, 5, 3), np.uint8)})
    with pytest.raises(DataError, match=r"one size, got 4x6, 8x5; .*--size"):
        open_source(str(tmp_path)).test(None)
    assert open_source(str(tmp_path), size=3).test(None).shape == (3, 3, 3)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n torn"])
def test_a_broken_image_is_named(tmp_path, content):
    source = folder(tmp_path, {"a/1.png": np.zeros((4, 4), np.uint8)})
    (tmp_path / "a/2.png").write_bytes(content)
    with pytest.raises(DataError, match=r"2\.png is no image that can be read; remove it"):
        source.test(None)


def test_a_truncated_image_is_named(tmp_path):
    source = folder(tmp_path, {"a/1.png": RNG.integers(0, 256, (40, 40), dtype=np.uint8)})
    path = tmp_path / "a/1.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"1\.png is no image"):
        source.test(None)


@pytest.mark.parametrize(
    ("inside", "got"), [([], "no sub-folder"), (["a", "b"], "no image in 2 sub-folders")]
)
def test_a_folder_without_images_is_refused(tmp_path, inside, got):
    for name in inside:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=got):
        open_source(str(tmp_path)).test(None)


def test_digits_are_those_of_scikit_learn():
    source, known = open_source("digits"), load_digits()
    test, train = source.test(None), source.train()
    assert (len(test), len(train), test.shape, test.classes) == (500, 1297, (1, 8, 8), 10)
    assert torch.equal(test.pixels()[:, 0], torch.from_numpy(known.images[1297:] / 16).float())
    assert torch.equal(train.labels, torch.from_numpy(known.target[:1297]))


CIFAR = {
    "cifar10": (
        "CIFAR10",
        "cifar-10-batches-py",
        "data_batch_1",
        "test_batch",
        "batches.meta",
        "labels",
        "label_names",
    ),
    "cifar100": ("CIFAR100", "cifar-100-python", "train", "test", "meta", "fine_labels", "fine_label_names"),
}


@pytest.fixture(params=CIFAR)
def cifar(request, tmp_path, monkeypatch, server):
    """A tiny archive laid out like the real one, served on this machine."""
    loader, base, train, test, meta, labels, names = CIFAR[request.param]
    classes = 100 if loader == "CIFAR100" else 10
    made, archive = tmp_path / "made" / base, tmp_path / "archive.tar.gz"
    made.mkdir(parents=True)
    content = {
        train: {"data": RNG.integers(0, 256, (5, 3072), dtype=np.uint8), labels: [0, 1, 2, 3, 4]},
        test: {"data": RNG.integers(0, 256, (3, 3072), dtype=np.uint8), labels: [9, 8, 7]},
        meta: {names: [str(i) for i in range(classes)]},
    }
    for name, value in content.items():
        (made / name).write_bytes(pickle.dumps(value))
    md5 = {name: hashlib.md5((made / name).read_bytes()).hexdigest() for name in content}
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(made, base)
    cls = getattr(datasets, loader)
    monkeypatch.setattr(cls, "url", f"http://127.0.0.1:{server.server_port}/archive.tar.gz")
    monkeypatch.setattr(cls, "filename", "archive.tar.gz")
    monkeypatch.setattr(cls, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(cls, "train_list", [[train, md5[train]]])
    monkeypatch.setattr(cls, "test_list", [[test, md5[test]]])
    monkeypatch.setattr(cls, "meta", {"filename": meta, "key": names, "md5": md5[meta]})
    monkeypatch.setenv("ROBUST_EVAL_DATA", str(tmp_path / "cache"))
    return request.param, cls, archive, content[test]["data"]


def test_cifar_is_fetched_only_if_missing_and_its_checksum_is_shown(cifar, caplog):
    name, cls, archive, pixels = cifar
    with caplog.at_level(logging.WARNING):
        found = open_source(name).test(None)
    assert np.array_equal(found.images.flatten(1).numpy(), pixels)
    assert (found.labels.tolist(), found.classes, found.shape) == (
        [9, 8, 7],
        100 if "00" in name else 10,
        (3, 32, 32),
    )
    (line,) = caplog.messages
    assert cls.tgz_md5 in line and cls.url in line
    archive.unlink()
    caplog.clear()
    assert len(open_source(name).train()) == 5
    assert not caplog.messages


def test_a_wrong_checksum_or_a_missing_archive_is_one_clear_error(cifar, monkeypatch, tmp_path):
    name, cls, archive, _ = cifar
    monkeypatch.setattr(cls, "tgz_md5", "0" * 32)
    with pytest.raises(DataError, match=rf"^data {name}: could not be fetched .*ROBUST_EVAL_DATA[^\n]*$"):
        open_source(name).test(None)
    archive.unlink()
    with pytest.raises(DataError, match="could not be fetched"):
        open_source(name).test(None)


def test_the_fingerprint_is_of_pixels_and_labels_and_not_of_names():
    images, labels = torch.from_numpy(COLOUR), torch.from_numpy(LABELS)
    given = Examples(images, labels, 3)
    assert Examples(images.clone(), labels.int(), 5, "elsewhere").fingerprint == given.fingerprint
    other = images.clone()
    other[5, 2, 7, 7] ^= 1
    changed = [
        Examples(other, labels, 3),
        Examples(images, labels.flip(0), 3),
        Examples(images.permute(0, 1, 3, 2), labels, 3),
        Examples(images.view(6, 3, 4, 16), labels, 3),
        given[:5],
    ]
    assert len({given.fingerprint, *(each.fingerprint for each in changed)}) == 6


def test_a_pool_without_the_images_it_defends():
    pool = Examples(torch.from_numpy(COLOUR), torch.from_numpy(LABELS), 3)
    as_floats = Examples(as_pixels(pool.images[2:4]), pool.labels[2:4], 3)
    left = pool.without(as_floats)
    assert left is not None and torch.equal(left.images, pool.images[[0, 1, 4, 5]])
    assert torch.equal(left.labels, pool.labels[[0, 1, 4, 5]])
    assert pool.without(Examples(255 - pool.images, pool.labels, 3)) is pool
    assert pool.without(pool) is None


def test_a_registered_name_is_not_a_path_and_size_is_for_folders(tmp_path):
    with pytest.raises(ConfigError, match="size is for image folders"):
        open_source("digits", size=4)
    with pytest.raises(ConfigError, match=r"unknown data 'digts' \(did you mean 'digits'\?\)"):
        open_source("digts")
    with pytest.raises(DataError, match="no file or folder"):
        open_source(str(tmp_path / "gone"))
