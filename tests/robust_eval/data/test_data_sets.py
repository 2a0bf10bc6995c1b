"""Named sets, read from small files in the format of the real ones and served on this machine."""

import gzip
import hashlib
import logging
import struct
import zipfile

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2

from robust_eval import machine
from robust_eval.data import open_source, tiny_imagenet
from robust_eval.errors import ConfigError, DataError
from robust_eval.registry import build, names

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_EVAL_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def svhn(tmp_path, monkeypatch, server):
    made = {}
    for split, labels in (("train", [10, 1, 9, 2]), ("test", [5, 10])):
        pixels = RNG.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        path = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": pixels, "y": np.array(labels, np.uint8)[:, None]})
        made[split] = (pixels, path)
    url = f"http://127.0.0.1:{server.server_port}"
    found = {split: [f"{url}/{path.name}", path.name, md5(path)] for split, (_, path) in made.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", found)
    return made


def test_svhn_is_fetched_only_if_missing_and_its_checksum_is_shown(svhn, caplog, cache):
    with caplog.at_level(logging.WARNING):
        test = open_source("svhn").test(None)
    pixels, path = svhn["test"]
    assert np.array_equal(test.images.numpy(), pixels.transpose(3, 2, 0, 1))
    assert (test.labels.tolist(), test.classes, test.images.dtype) == ([5, 0], 10, torch.uint8)
    assert test.images.is_contiguous()
    (line,) = caplog.messages
    assert md5(path) in line and "test_32x32.mat" in line and str(cache) in line
    path.unlink()
    caplog.clear()
    assert len(open_source("svhn").test(1)) == 1 and not caplog.messages
    assert open_source("svhn").train().labels.tolist() == [0, 1, 9, 2]


def test_a_file_that_was_not_fetched_whole_is_fetched_again(svhn, cache):
    cache.mkdir()
    (cache / "train_32x32.mat").write_bytes(svhn["train"][1].read_bytes()[:100])
    assert len(open_source("svhn").train()) == 4


def test_a_wrong_checksum_is_one_clear_error(svhn, monkeypatch):
    monkeypatch.setitem(datasets.SVHN.split_list, "test", [*datasets.SVHN.split_list["test"][:2], "0" * 32])
    with pytest.raises(DataError, match=r"^data svhn: could not be fetched from \S+test_32x32.mat [^\n]*$"):
        open_source("svhn").test(None)


def idx(array):
    """The IDX format: two zeros, 8 for bytes, the number of dimensions, their lengths, the bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


IDX = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


@pytest.fixture(params=IDX)
def mnist(request, tmp_path, monkeypatch, server):
    cls, made, resources = getattr(datasets, IDX[request.param]), {}, []
    for split, n in (("train", 6), ("t10k", 3)):
        made[split] = RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", made[split]), ("labels-idx1", np.arange(n) * 2 % 10)):
            path = tmp_path / f"{split}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
            resources.append((path.name, md5(path)))
    monkeypatch.setattr(cls, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(cls, "resources", resources)
    return request.param, made, resources


def test_mnist_and_its_kin_are_fetched_only_if_missing_and_their_checksums_are_shown(mnist, caplog, tmp_path):
    name, made, resources = mnist
    with caplog.at_level(logging.WARNING):
        test = open_source(name).test(None)
    assert np.array_equal(test.images.numpy()[:, 0], made["t10k"])
    assert (test.labels.tolist(), test.classes, test.shape) == ([0, 2, 4], 10, (1, 28, 28))
    (line,) = caplog.messages
    assert all(file in line and checksum in line for file, checksum in resources)
    for file, _ in resources:
        (tmp_path / file).unlink()
    caplog.clear()
    train = open_source(name, per_class=1, seed=2).train()
    assert np.array_equal(train.labels.sort().values, [0, 2, 4, 6, 8]) and not caplog.messages


def test_damaged_idx_files_are_one_clear_error(mnist, cache):
    name, _, _ = mnist
    open_source(name).train()
    for path in cache.rglob("train-images-idx3-ubyte"):
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=rf"^data {name}: [^\n]*$"):
        open_source(name).train()


def jpeg(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, "JPEG", quality=100)


WNIDS = ("n02", "n01", "n03")
BRIGHTNESS = {"n01": 50, "n02": 120, "n03": 200}


@pytest.fixture
def tiny(tmp_path, monkeypatch, server):
    """An archive laid out like the real one: wnids.txt out of order, a grey file, no labels in test."""
    base = tmp_path / "made" / "tiny-imagenet-200"
    for name in WNIDS:
        for i in range(4):
            shape = (64, 64) if (name, i) == ("n01", 0) else (64, 64, 3)
            jpeg(
                base / "train" / name / "images" / f"{name}_{i}.JPEG",
                np.full(shape, BRIGHTNESS[name], np.uint8),
            )
        (base / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t62\t62\n")
    lines = []
    for i, name in enumerate(["n03", "n01", "n02", "n01"]):
        jpeg(base / "val" / "images" / f"val_{i}.JPEG", np.full((64, 64, 3), BRIGHTNESS[name], np.uint8))
        lines.append(f"val_{i}.JPEG\t{name}\t0\t32\t44\t62\n")
    (base / "val" / "val_annotations.txt").write_text("".join(lines))
    jpeg(base / "test" / "images" / "test_0.JPEG", np.zeros((64, 64, 3), np.uint8))
    (base / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    archive = tmp_path / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(base.rglob("*")):
            file.write(path, path.relative_to(base.parent))
    url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    monkeypatch.setattr(tiny_imagenet, "ORIGIN", tiny_imagenet.Origin(url, md5(archive)))
    return archive


def test_tiny_imagenet_is_fetched_once_and_its_checksum_is_shown(tiny, caplog, cache):
    checksum = md5(tiny)
    with caplog.at_level(logging.WARNING):
        test = open_source("tiny_imagenet").test(None)
    assert (test.shape, test.classes, test.labels.tolist()) == ((3, 64, 64), 3, [2, 0, 1, 0])
    assert test.images[:, 0, 0, 0].tolist() == [200, 50, 120, 50]
    (line,) = caplog.messages
    assert checksum in line and tiny.name in line
    tiny.unlink()
    (cache / tiny.name).unlink()
    caplog.clear()
    train = open_source("tiny_imagenet").train()
    assert train.labels.bincount().tolist() == [4, 4, 4] and not caplog.messages
    assert train.images[:, :, 5, 5].tolist() == [[(50, 120, 200)[k]] * 3 for k in train.labels]
    assert train.labels.tolist() != sorted(train.labels.tolist())
    assert len(open_source("tiny_imagenet").test(2)) == 2


def test_a_tiny_imagenet_of_grey_files_is_in_colour(tiny, cache):
    open_source("tiny_imagenet").test(1)
    for path in (cache / "tiny-imagenet-200/train").rglob("*.JPEG"):
        jpeg(path, np.full((64, 64), 9, np.uint8))
    assert open_source("tiny_imagenet", per_class=1).train().shape == (3, 64, 64)


def test_a_fetch_that_fails_leaves_no_half_of_tiny_imagenet_behind(tiny, monkeypatch, cache):
    monkeypatch.setattr(tiny_imagenet, "ORIGIN", tiny_imagenet.ORIGIN._replace(md5="0" * 32))
    with pytest.raises(DataError, match=r"^data tiny_imagenet: could not be fetched [^\n]*ROBUST_EVAL_DATA"):
        open_source("tiny_imagenet").test(None)
    tiny.write_bytes(b"no archive")
    (cache / tiny.name).unlink()
    monkeypatch.setattr(tiny_imagenet, "ORIGIN", tiny_imagenet.ORIGIN._replace(md5=md5(tiny)))
    with pytest.raises(DataError, match="could not be fetched"):
        open_source("tiny_imagenet").test(None)
    assert [path.name for path in cache.iterdir()] == [tiny.name]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda base: (base / "wnids.txt").unlink(), r"expected \S+wnids.txt with one WordNet id per line"),
        (
            lambda base: (base / "wnids.txt").write_text("n01 n04"),
            r"for each class of wnids.txt, got none for n04",
        ),
        (
            lambda base: (base / "val/val_annotations.txt").unlink(),
            r"expected \S+val_annotations.txt .* as an image folder if you have sorted it",
        ),
        (
            lambda base: (base / "val/val_annotations.txt").write_text("val_0.JPEG\tn01\nval_1.JPEG n02"),
            r"line 2: expected a file and a class of wnids.txt, separated by a tab, got 'val_1.JPEG n02'",
        ),
        (lambda base: (base / "val/images/val_1.JPEG").unlink(), r"val_1.JPEG is no image that can be read"),
    ],
)
def test_a_damaged_tiny_imagenet_is_one_clear_error(tiny, cache, damage, message):
    open_source("tiny_imagenet").test(1)
    damage(cache / "tiny-imagenet-200")
    with pytest.raises(DataError, match=message) as caught:
        open_source("tiny_imagenet").test(None)
    assert "\n" not in str(caught.value)


@pytest.fixture
def imagenet(cache):
    """Folders as torchvision unpacks ILSVRC 2012: files of any size, some of them grey."""
    for split, n in (("train", 5), ("val", 3)):
        for k, name in enumerate(("n01440764", "n01443537")):
            for i in range(n):
                h, w = RNG.integers(30, 60, 2)
                grey = (k, i) == (1, 0)
                pixels = RNG.integers(0, 256, (h, w) if grey else (h, w, 3), dtype=np.uint8)
                jpeg(cache / "imagenet" / split / name / f"{split}_{i}.JPEG", pixels)
    # the real archive has no labels for these
    jpeg(cache / "imagenet" / "test" / "test_0.JPEG", np.zeros((40, 40, 3), np.uint8))
    return cache / "imagenet"


@pytest.mark.parametrize("size", [14, 21, 28])
def test_imagenet_is_resized_and_cropped_as_by_torchvision(imagenet, size):
    found = open_source("imagenet", size=size).test(None)
    assert (len(found), found.classes, found.shape) == (6, 2, (3, size, size))
    crop = v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size), v2.PILToTensor()])
    expected = {}
    for path in (imagenet / "val").rglob("*.JPEG"):
        with Image.open(path) as image:
            expected[crop(image.convert("RGB")).numpy().tobytes()] = path.parent.name == "n01443537"
    assert {
        image.numpy().tobytes(): bool(label) for image, label in zip(found.images, found.labels, strict=True)
    } == expected


def test_imagenet_has_224_pixels_and_opens_only_the_files_asked_for(imagenet):
    first = open_source("imagenet").test(2)
    assert first.shape == (3, 224, 224)
    opened = open_source("imagenet", size=16, per_class=2).train()
    assert opened.labels.bincount().tolist() == [2, 2] and opened.shape == (3, 16, 16)


def test_test_images_that_leave_no_room_in_memory_stay_in_their_files(imagenet, monkeypatch):
    held = open_source("imagenet").test(6)
    monkeypatch.setattr(machine, "available", lambda device: 10 * 3 * 224 * 224)
    assert isinstance(open_source("imagenet").test(5).images, torch.Tensor)
    streamed = open_source("imagenet").test(6)
    assert not isinstance(streamed.images, torch.Tensor) and torch.equal(streamed.pixels(), held.pixels())
    assert streamed.fingerprint == held.fingerprint


def test_imagenets_training_images_are_streamed_where_they_do_not_fit(imagenet, monkeypatch):
    held = open_source("imagenet", size=16).train()
    monkeypatch.setattr(machine, "available", lambda device: 5 * 3 * 16 * 16)
    streamed = open_source("imagenet", size=16).train()
    assert not isinstance(streamed.images, torch.Tensor) and len(streamed) == 10
    assert torch.equal(streamed.pixels(), held.pixels()) and torch.equal(streamed.labels, held.labels)
    assert streamed.fingerprint == held.fingerprint


def test_imagenet_says_what_it_needs(cache, imagenet):
    (cache / "imagenet/train").rename(cache / "gone")
    with pytest.raises(DataError, match=r"expected a folder \S+imagenet/train .* cannot be fetched"):
        open_source("imagenet").train()
    for path in (cache / "imagenet/val").iterdir():
        path.rename(cache / path.name)
    jpeg(cache / "imagenet/val/ILSVRC2012_val_00000001.JPEG", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(DataError, match=r"sort the images into folders by their class"):
        open_source("imagenet").test(None)
    with pytest.raises(ConfigError, match="size: expected >= 1, got 0"):
        open_source("imagenet", size=0)


@pytest.mark.parametrize("name", names("data"))
def test_usual_normalisations_are_one_positive_number_per_channel_in_the_pixel_range(name):
    source = build("data", name, {})
    assert source.name == name
    if source.mean is None:
        assert source.std is None
    else:
        assert len(source.mean) == len(source.std) == (1 if "mnist" in name else 3)
        assert all(0 < value < 1 for value in (*source.mean, *source.std))


def test_the_normalisations_of_cifar_are_the_published_ones():
    assert build("data", "cifar10", {}).mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=3e-4)
    assert build("data", "cifar10", {}).std == pytest.approx((0.2470, 0.2435, 0.2616), abs=3e-4)
    assert build("data", "cifar100", {}).mean == pytest.approx((0.5071, 0.4866, 0.4409), abs=3e-4)
    assert build("data", "cifar100", {}).std == pytest.approx((0.2673, 0.2564, 0.2762), abs=3e-4)


def test_the_addresses_and_checksums_are_those_that_torchvision_knows():
    assert tiny_imagenet.ORIGIN.md5 == "90528d7ca1a48142e341f4ef8d21d0de"
    for cls in (datasets.CIFAR10, datasets.CIFAR100):
        assert cls.url.startswith("https://") and len(cls.tgz_md5) == 32
    assert set(datasets.SVHN.split_list) >= {"train", "test"}
    assert all(
        len(checksum) == 32
        for cls in (datasets.MNIST, datasets.FashionMNIST)
        for _, checksum in cls.resources
    )
