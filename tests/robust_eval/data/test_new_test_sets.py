"""CIFAR-10.1 and ImageNet-v2, read from small files in the format of the real ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from robust_eval.data import imagenet_v2, open_source
from robust_eval.data.cifar10_1 import Cifar101V4, Cifar101V6
from robust_eval.data.imagenet_v2 import ImageNetV2
from robust_eval.errors import DataError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_EVAL_DATA", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def pair(folder, version="v6", n=2000, dtype=np.int32):
    """Write a pair whose first pixel tells the label."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.sort(np.arange(n) % 10).astype(dtype)
    pixels = RNG.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = labels
    np.save(folder / f"cifar10.1_{version}_data.npy", pixels)
    np.save(folder / f"cifar10.1_{version}_labels.npy", labels)
    return pixels, labels


@pytest.mark.parametrize("below", [".", "cifar10.1", "CIFAR-10.1/datasets"])
def test_cifar10_1_is_found_in_the_cache_folder(cache, below):
    pixels, _ = pair(cache / below)
    test = open_source("cifar10_1").test(None)
    assert (len(test), test.shape, test.classes, test.images.dtype) == (2000, (3, 32, 32), 10, torch.uint8)
    assert torch.equal(test.images[:, 0, 0, 0].long(), test.labels) and test.images.is_contiguous()
    # the same images, in another order
    first = {image.tobytes() for image in pixels.transpose(0, 3, 1, 2)}
    assert first == {image.numpy().tobytes() for image in test.images}
    assert open_source("cifar10_1").train() is None


def test_the_first_images_of_a_sorted_file_are_of_all_classes(tmp_path):
    pair(tmp_path / "mine")
    first = Cifar101V6(root=tmp_path / "mine").test(100)
    assert len(set(first.labels.tolist())) == 10
    whole = Cifar101V6(root=tmp_path / "mine").test(None)
    assert torch.equal(first.images, whole.images[:100]) and first.fingerprint == whole.first(100).fingerprint


def test_version_4_has_21_images_more_and_labels_of_64_bits(cache):
    pair(cache, "v4", 2021, np.int64)
    assert len(open_source("cifar10_1_v4").test(None)) == 2021
    with pytest.raises(DataError, match=r"expected cifar10.1_v6_data.npy and cifar10.1_v6_labels.npy in "):
        open_source("cifar10_1").test(None)


def test_a_missing_pair_says_where_it_is_looked_for_and_where_it_comes_from(cache, tmp_path):
    with pytest.raises(
        DataError, match=rf"^data cifar10_1: [^\n]* in {cache}, got none; take both from [^\n]*$"
    ):
        open_source("cifar10_1").test(None)
    with pytest.raises(DataError, match=rf"in {tmp_path / 'mine'}, got none"):
        Cifar101V4(root=tmp_path / "mine").test(None)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        (
            "data",
            np.zeros((2021, 32, 32, 3), np.uint8),
            r"uint8 of shape \[2000, 32, 32, 3\], got uint8 of .*2021",
        ),
        ("data", np.zeros((2000, 3, 32, 32), np.uint8), r"got uint8 of shape \[2000, 3, 32, 32\]"),
        ("data", np.zeros((2000, 32, 32, 3), np.float32), "got float32"),
        (
            "labels",
            np.zeros((2000, 1), np.int64),
            r"whole numbers of shape \[2000\], got int64 of shape \[2000, 1\]",
        ),
        ("labels", np.zeros(2000), "got float64"),
        ("labels", np.full(2000, 10), r"expected labels in 0\.\.9, got 10\.\.10"),
    ],
)
def test_files_of_another_shape_count_or_type_are_refused(cache, file, array, message):
    pair(cache)
    np.save(cache / f"cifar10.1_v6_{file}.npy", array)
    with pytest.raises(DataError, match=message):
        open_source("cifar10_1").test(None)


def test_damaged_and_pickled_files_are_refused(cache):
    pair(cache)
    path = cache / "cifar10.1_v6_labels.npy"
    for content in (b"", path.read_bytes()[:50]):
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=rf"^data: {path} is no array that can be read; get the file again$"
        ):
            open_source("cifar10_1").test(None)
    np.save(path, np.array([{}] * 2000), allow_pickle=True)
    with pytest.raises(DataError, match="no array that can be read"):
        open_source("cifar10_1").test(None)
    with path.open("wb") as file:
        np.savez(file, labels=np.zeros(2000, np.int64))
    with pytest.raises(DataError, match=r"got a .npz file"):
        open_source("cifar10_1").test(None)


@pytest.fixture
def small(monkeypatch):
    """ImageNet-v2 with twelve classes of two images; the red of each image tells its class."""
    monkeypatch.setattr(imagenet_v2, "CLASSES", 12)
    monkeypatch.setattr(imagenet_v2, "PER_CLASS", 2)

    def write(folder):
        for label in range(12):
            (folder / str(label)).mkdir(parents=True)
            for i in range(2):
                pixels = np.full((40, 50, 3), 20 * label, np.uint8)
                Image.fromarray(pixels).save(folder / str(label) / f"{label}_{i}.png")
        return folder

    return write


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("imagenet_v2", "imagenetv2-matched-frequency-format-val"),
        ("imagenet_v2", "imagenetv2-matched-frequency"),
        ("imagenet_v2", "imagenetv2/imagenetv2-matched-frequency-format-val"),
        ("imagenet_v2_threshold", "imagenetv2-threshold0.7-format-val"),
        ("imagenet_v2_top_images", "imagenetv2-top-images-format-val"),
    ],
)
def test_class_folders_are_numbers_and_not_words(cache, small, name, folder):
    small(cache / folder)
    test = open_source(name, size=32).test(None)
    assert (len(test), test.shape, test.classes) == (24, (3, 32, 32), 12)
    assert torch.equal(test.images[:, 0, 0, 0].long(), 20 * test.labels)
    assert open_source(name).train() is None
    first = open_source(name, size=32).test(5)
    assert torch.equal(first.images, test.images[:5]) and len(set(first.labels.tolist())) > 2


def test_a_folder_of_the_users_own_is_read(tmp_path, small):
    assert len(ImageNetV2(root=small(tmp_path / "anywhere")).test(None)) == 24
    with pytest.raises(DataError, match=f"expected a folder {tmp_path / 'nowhere'}, got none"):
        ImageNetV2(root=tmp_path / "nowhere").test(None)


def test_none_and_several_folders_are_refused(cache, small):
    with pytest.raises(DataError, match="got none; unpack it there from"):
        open_source("imagenet_v2").test(None)
    for ending in ("", "-format-val"):
        small(cache / f"imagenetv2-matched-frequency{ending}")
    with pytest.raises(
        DataError, match="got imagenetv2-matched-frequency, imagenetv2-matched-frequency-format-val; remove"
    ):
        open_source("imagenet_v2").test(None)


def test_missing_classes_and_images_and_other_names_are_refused(cache, small):
    folder = small(cache / "imagenetv2-matched-frequency")
    (folder / "3" / "3_0.png").unlink()
    with pytest.raises(DataError, match=r"expected 24 images in .*, got 23; unpack the archive again"):
        open_source("imagenet_v2").test(None)
    (folder / "7").rename(folder / "n0007")
    with pytest.raises(DataError, match=r"expected the folders 0 to 11 in .*, got 12, and 7, n0007 missing"):
        open_source("imagenet_v2").test(None)
