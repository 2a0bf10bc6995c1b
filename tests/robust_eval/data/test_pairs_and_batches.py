import pickle

import numpy as np
import pytest

from robust_eval.data import open_source
from robust_eval.errors import ConfigError, DataError

IMAGES = np.arange(4, dtype=np.uint8).repeat(3072).reshape(4, 3072)


class Harmful:
    """Asks whoever unpickles it to make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def save(folder, **arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.asarray(array))


def batch(path, found, protocol=2):
    path.write_bytes(pickle.dumps(found, protocol=protocol))
    return str(path)


def test_two_npy_files_are_named_with_a_comma_or_by_their_folder(tmp_path):
    save(tmp_path, images=np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), labels=[1, 0])
    named, inside = (
        open_source(name).test(None) for name in (f"{tmp_path}/images.npy,labels.npy", str(tmp_path))
    )
    assert named.images.flatten().tolist() == list(range(24)) and named.labels.tolist() == [1, 0]
    assert named.fingerprint == inside.fingerprint and open_source(str(tmp_path)).train() is None


def test_a_folder_of_npy_files_may_hold_training_images(tmp_path):
    for split, n in (("test", 2), ("train", 3)):
        save(tmp_path, **{f"{split}_images": np.zeros((n, 1, 2, 2), np.uint8), f"{split}_labels": [0] * n})
    source = open_source(str(tmp_path))
    assert (len(source.test(None)), len(source.train()), len(source.test(1))) == (2, 3, 1)


def test_what_is_measured_does_not_change_the_file(tmp_path):
    save(tmp_path, x=np.zeros((1, 1, 2, 2), np.uint8), y=[0])
    open_source(str(tmp_path)).test(None).images.fill_(9)
    assert not np.load(tmp_path / "x.npy").any()


@pytest.mark.parametrize(
    ("arrays", "name", "told"),
    [
        (
            {"x": np.zeros((1, 1, 2, 2), np.uint8)},
            "",
            r"y\.npy: expected a \.npy file of numpy.save, got none",
        ),
        ({"x": np.zeros((1, 1, 2, 2), np.uint8)}, "/x.npy", "got one .npy file; name both"),
        (
            {"x": np.zeros((2, 1, 2, 2), np.uint8), "y": [0]},
            "",
            "got 2 images in x.npy and 1 labels in y.npy",
        ),
        ({"x": np.zeros((1, 1, 2, 2), np.uint8), "y": [0.5]}, "", "expected whole numbers of shape"),
        ({"x": np.zeros((1, 1, 2, 2), np.uint8), "y": np.array([{}])}, "", "holds Python objects"),
        ({"x": np.zeros((1, 1, 2, 2), int), "y": [0]}, "", "expected uint8 or float"),
    ],
)
def test_a_pair_that_nearly_fits_is_refused_in_one_line(tmp_path, arrays, name, told):
    save(tmp_path, **arrays)
    with pytest.raises(DataError, match=told) as error:
        open_source(f"{tmp_path}{name}").test(None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickled_batches_are_read_as_cifar_has_them(tmp_path, protocol):
    for number in range(1, 6):
        batch(tmp_path / f"data_batch_{number}", {b"data": IMAGES, b"labels": [number % 2] * 4}, protocol)
    batch(
        tmp_path / "test_batch",
        {b"data": IMAGES, b"labels": [3, 2, 1, 0], b"filenames": [b"a.png"]},
        protocol,
    )
    batch(tmp_path / "batches.meta", {b"label_names": [b"plane", b"car", b"bird", b"cat"]}, protocol)
    source = open_source(str(tmp_path))
    test = source.test(None)
    assert (test.shape, test.labels.tolist()) == ((3, 32, 32), [3, 2, 1, 0])
    assert test.images[:, 2, 31, 31].tolist() == [0, 1, 2, 3]
    assert test.class_names == ("plane", "car", "bird", "cat") and len(source.train()) == 20


def test_a_single_batch_and_the_files_of_cifar_100_do_as_well(tmp_path):
    one = batch(tmp_path / "some.pkl", {"data": IMAGES, "targets": np.array([0, 1, 0, 1])})
    assert open_source(one).test(2).labels.tolist() == [0, 1]
    (tmp_path / "c").mkdir()
    batch(tmp_path / "c/test", {b"data": IMAGES, b"coarse_labels": [0] * 4, b"fine_labels": [7] * 4})
    batch(tmp_path / "c/meta", {b"fine_label_names": [f"c{i}".encode() for i in range(9)]})
    found = open_source(str(tmp_path / "c")).test(None)
    assert (found.labels.tolist(), found.classes) == ([7] * 4, 9)


@pytest.mark.parametrize("where", ["data", "labels", "more"])
def test_a_pickle_that_asks_for_code_is_refused_by_name_and_nothing_is_run(tmp_path, where):
    harm = tmp_path / "harm"
    found = {"data": IMAGES, "labels": [0] * 4} | {where: Harmful(harm)}
    with pytest.raises(DataError, match=r"a pickle that asks for \w*\.?open, which is not run"):
        open_source(batch(tmp_path / "some.pkl", found)).test(None)
    assert not harm.exists()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([1], "expected a dictionary of data and labels, got list"),
        ({"data": IMAGES}, "expected labels, fine_labels or targets in the batch, got data"),
        ({"data": IMAGES[:, :10], "labels": [0] * 4}, r"expected data of bytes \[n,3072\]"),
        ({"data": IMAGES, "labels": [0]}, "got 4 images and 1 labels"),
        ({"data": IMAGES, "labels": [0.5] * 4}, "expected whole numbers or names"),
    ],
)
def test_a_batch_that_nearly_fits_is_refused_in_one_line(tmp_path, found, told):
    with pytest.raises(DataError, match=told) as error:
        open_source(batch(tmp_path / "some.pkl", found)).test(None)
    assert "\n" not in str(error.value)


def test_a_damaged_pickle_and_a_size_for_arrays_are_refused(tmp_path):
    (tmp_path / "some.pkl").write_bytes(b"\x80\x04nothing")
    with pytest.raises(DataError, match="is no pickle that can be read"):
        open_source(str(tmp_path / "some.pkl")).test(None)
    with pytest.raises(ConfigError, match="size is for image folders and files of encoded images"):
        open_source(str(tmp_path / "some.pkl"), size=4)
