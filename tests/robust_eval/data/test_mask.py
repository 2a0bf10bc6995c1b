import numpy as np
import pytest
import torch
from PIL import Image

from robust_eval.data.mask import as_mask, changed_outside, read_mask
from robust_eval.errors import ConfigError

SHAPE = (3, 4, 5)


def corner(*shape):
    mask = np.zeros(shape, np.uint8)
    mask[..., :2, :2] = 1
    return mask


@pytest.mark.parametrize(
    "shape", [(4, 5), (1, 4, 5), (3, 4, 5), (7, 4, 5), (7, 1, 4, 5), (7, 3, 4, 5), (1, 3, 4, 5)]
)
@pytest.mark.parametrize("kind", [np.uint8, bool, np.float32, np.int64])
def test_masks_of_one_meaning_in_any_shape_and_type_are_the_same(shape, kind):
    made = as_mask(corner(*shape).astype(kind), SHAPE, 7)
    free = made.of(slice(2, 5), torch.device("cpu"))
    assert free.shape == (3, *SHAPE) and torch.equal(free, torch.from_numpy(corner(3, *SHAPE).astype(bool)))
    assert made.share == pytest.approx(0.2) and made.text.startswith("within a mask of 20 % of the pixels (")


def test_a_mask_is_known_by_its_values_and_a_shared_one_by_no_number_of_images():
    one = as_mask(corner(4, 5), SHAPE, 7)
    assert one.sha256 == as_mask(torch.from_numpy(corner(3, 4, 5)), SHAPE, 2).sha256
    assert one.sha256 != as_mask(1 - corner(4, 5), SHAPE, 7).sha256


def test_files_of_every_kind_hold_the_same_mask(tmp_path):
    np.save(tmp_path / "a.npy", corner(4, 5))
    np.savez(tmp_path / "b.npz", anything=corner(4, 5))
    np.savez(tmp_path / "c.npz", mask=corner(4, 5), other=0)
    Image.fromarray(255 * corner(4, 5)).save(tmp_path / "d.png")
    Image.fromarray(255 * corner(4, 5)).convert("1").save(tmp_path / "e.png")
    Image.fromarray(255 * corner(4, 5)).convert("RGB").save(tmp_path / "f.png")
    found = {read_mask(path, SHAPE, 7, ordered=True).sha256 for path in sorted(tmp_path.iterdir())}
    assert len(found) == 1


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full((4, 5), 2), r"expected 0 \(kept\) and 1 \(may change\) alone, got other values"),
        (np.full((4, 5), 255, np.uint8), "divide it by 255"),
        (np.full((4, 5), np.nan), "got other values"),
        (np.full((4, 5), "x"), "got <U1"),
        (np.zeros((4, 5)), "at least one pixel that may change"),
        (np.ones((5, 4)), r"for images of 3x4x5, or one for each of 7 images, got shape \[5, 4\]"),
        (np.ones((2, 4, 5)), r"got shape \[2, 4, 5\]"),
        (np.ones(20), r"got shape \[20\]"),
    ],
)
def test_what_is_no_mask_of_the_images_is_refused(values, told):
    with pytest.raises(ConfigError, match=told):
        as_mask(values, SHAPE, 7)


def test_one_for_each_image_needs_images_in_an_order_of_ones_own():
    with pytest.raises(ConfigError, match="measured in a shuffled order"):
        as_mask(corner(7, 4, 5), SHAPE, 7, ordered=False)
    as_mask(corner(4, 5), SHAPE, 7, ordered=False)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.npy", r"is no \.npy file"),
        ("b.npz", r"expected a \.npz file"),
        ("c.png", "is no picture"),
        ("d.txt", r"got \.txt"),
        ("absent/e.npy", r"expected a \.npy, \.npz or \.png file, got none"),
    ],
)
def test_files_that_are_none_are_refused_in_one_line(tmp_path, name, told):
    if "/" not in name:
        (tmp_path / name).write_text("<html>")
    with pytest.raises(ConfigError, match=told) as error:
        read_mask(tmp_path / name, SHAPE, 7, ordered=True)
    assert "\n" not in str(error.value)


def test_what_changed_outside_is_found():
    free = as_mask(corner(4, 5), SHAPE, 2).of(slice(0, 2), torch.device("cpu"))
    x = torch.zeros(2, *SHAPE)
    x_adv = x.clone()
    x_adv[:, :, 0, 0] = 1
    x_adv[1, 0, 3, 3] = 1e-6
    assert changed_outside(free, x, x_adv).tolist() == [False, True]
