"""Adversarials on disk are what was measured: floats without loss, pictures of 8 bits, and a manifest that tells."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_eval.errors import DataError
from robust_eval.identity import file_sha256
from robust_eval.results.adversarials import PICTURED, are_saved, read_adversarials, save_adversarials

N = 60
KEY = "a" * 64


def saved(run, channels=3):
    images = torch.rand(N, channels, 5, 4, generator=torch.Generator().manual_seed(0))
    rows = pd.DataFrame(
        {
            "index": range(N),
            "label": 1,
            "prediction": [i % 3 for i in range(N)],
            "attacked": [i % 2 == 0 for i in range(N)],
            "distance": np.linspace(0, 1, N),
        }
    )
    still = torch.tensor([i % 6 == 0 for i in range(N)])
    save_adversarials(run, KEY, {"model": "net", "perturbation": "pgd"}, images, rows, still)
    return images, rows, still


def test_they_come_back_bit_for_bit(tmp_path):
    images, rows, still = saved(tmp_path)
    found = read_adversarials(tmp_path, KEY)
    assert found.x.equal(images) and are_saved(tmp_path, KEY)
    assert (found.rows["success"] == (rows["attacked"] & (rows["prediction"] != 1))).all()
    assert (found.rows["success_in_bytes"].to_numpy() == still.numpy()).all()
    assert found.rows["distance"].tolist() == rows["distance"].tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_images_rounded_to_eight_bits(tmp_path, channels):
    images, _, _ = saved(tmp_path, channels)
    pictures = sorted((tmp_path / "examples" / KEY).glob("*.png"))
    assert len(pictures) == PICTURED
    pixels = np.asarray(Image.open(pictures[7])).reshape(5, 4, channels)
    assert (pixels == (images[7] * 255).round().permute(1, 2, 0).numpy()).all()


def test_images_that_are_no_pictures_have_none(tmp_path):
    saved(tmp_path, channels=2)
    assert not list(tmp_path.rglob("*.png")) and read_adversarials(tmp_path, KEY).x.shape[1] == 2


def test_the_manifest_has_the_hash_of_each_file(tmp_path):
    saved(tmp_path)
    manifest = json.loads((tmp_path / "examples" / f"{KEY}.json").read_text())
    assert manifest["labels"]["model"] == "net" and len(manifest["sha256"]) == 1 + PICTURED
    for name, told in manifest["sha256"].items():
        assert file_sha256(tmp_path / "examples" / name) == told


def test_what_is_not_what_was_written_is_told(tmp_path):
    with pytest.raises(DataError, match="got none; measure with --save-examples"):
        read_adversarials(tmp_path, KEY)
    saved(tmp_path)
    path = tmp_path / "examples" / f"{KEY}.npz"
    np.savez(path, x=np.zeros((1, 1, 1, 1)))
    with pytest.raises(DataError, match="is not what was written"):
        read_adversarials(tmp_path, KEY)
    (tmp_path / "examples" / f"{KEY}.json").write_text("[]")
    with pytest.raises(DataError, match="is damaged"):
        read_adversarials(tmp_path, KEY)
