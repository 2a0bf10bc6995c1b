"""Rotation, shear and scaling, against torchvision and Pillow."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from robust_eval import Rng
from robust_eval.corruptions.deformation import DEFORMATIONS, Rotation, Scale, Shear
from robust_eval.errors import DataError

every_set = pytest.mark.parametrize("method", DEFORMATIONS.values(), ids=DEFORMATIONS)
every_interpolation = pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
SHAPES = [(3, 32, 32), (1, 28, 28), (3, 19, 40), (1, 7, 7)]


def photos(n, channels=3, height=32, width=32):
    generator = torch.Generator().manual_seed(height)
    return torch.rand(n, channels, height, width, generator=generator)


def angles(degrees, ids, seed=3):
    """The draws of a rotation or shear, in degrees."""
    drawn = Rng(seed).rows(torch.as_tensor(ids)).child("angle").uniform(1)[:, 0].double()
    return ((2 * drawn - 1) * degrees).tolist()


def affine(x, *, angle=0.0, scale=1.0, shear=0.0, interpolation="nearest"):
    mode = InterpolationMode(interpolation)
    return reference.affine(x, angle, [0, 0], scale, [shear, 0.0], interpolation=mode, fill=None)


def settings(method, ids):
    """What torchvision is told for each image."""
    if isinstance(method, Scale):
        return [{"scale": method.content} for _ in ids]
    word = "angle" if isinstance(method, Rotation) else "shear"
    return [{word: angle} for angle in angles(method.degrees, ids)]


def assert_equal_but_for_ties(found, expected, within):
    """A pixel within float32 rounding of halfway between two may be the other one."""
    off = (found - expected).abs() > within
    assert off.double().mean() < 0.005


@every_set
@pytest.mark.parametrize(
    ("interpolation", "shape"),
    # scaled by 0.8 or 1.2 about a pixel's centre, pixels of an odd side lie halfway between two
    [("nearest", shape) for shape in [*SHAPES[:2], (3, 20, 40)]] + [("bilinear", shape) for shape in SHAPES],
    ids=str,
)
def test_a_deformation_equals_torchvisions(method, interpolation, shape):
    x, ids = photos(5, *shape), [4, 0, 77, 3, 12]
    made = replace(method, interpolation=interpolation)
    found = made(x, rng=Rng(3).rows(torch.tensor(ids)))
    for image, new, told in zip(x, found, settings(method, ids), strict=True):
        expected = affine(image[None], **told, interpolation=interpolation)[0]
        assert_equal_but_for_ties(new, expected, 1e-6 if interpolation == "nearest" else 1e-4)


@every_set
def test_nearest_is_what_the_papers_did_to_8_bit_images(method):
    x, ids = (photos(5) * 255).round() / 255, [4, 0, 77, 3, 12]
    found = method(x, rng=Rng(3).rows(torch.tensor(ids)))
    for image, new, told in zip(x, found, settings(method, ids), strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        turned = {"angle": 0.0, "scale": 1.0, "shear": 0.0} | told
        expected = reference.affine(
            Image.fromarray(pixels), turned["angle"], [0, 0], turned["scale"], [turned["shear"], 0.0], fill=0
        )
        expected = torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255
        assert_equal_but_for_ties(new, expected, 1e-6)


@every_interpolation
@pytest.mark.parametrize("cls", [Rotation, Shear, Scale])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nothing_to_do_gives_the_image_back(cls, interpolation, shape):
    nothing = {"content": 1.0} if cls is Scale else {"degrees": 0.0}
    x = photos(3, *shape)
    found = cls(**nothing, interpolation=interpolation)(x, rng=Rng(0))
    assert torch.allclose(found, x, atol=1e-5)
    if interpolation == "nearest":
        assert torch.equal(found, x)


@every_interpolation
def test_shrunk_content_has_a_black_frame_and_grown_content_loses_its_rim(interpolation):
    x = torch.ones(1, 1, 30, 30)
    x[..., 10:20, 10:20] = 0.5
    small = Scale(content=0.6, interpolation=interpolation)(x, rng=Rng(0))[0, 0]
    assert (small[:5] == 0).all() and (small[:, -5:] == 0).all()
    # 6 pixels of 30 on either side: 18 are left of the image, and 6 of the square in it
    assert small[7:23, 7] == pytest.approx(1, abs=1e-6) and small[15, 15] == pytest.approx(0.5)
    assert (small > 0.01).sum() == pytest.approx(18**2, abs=80)
    large = Scale(content=1.4, interpolation=interpolation)(x, rng=Rng(0))[0, 0]
    assert (large > 0).all()
    assert (large < 0.75).sum() == pytest.approx(14**2, abs=30)


def test_a_quarter_turn_and_a_shear_by_one_pixel_a_row_are_permutations(monkeypatch):
    x = photos(2, height=9, width=9)

    def drawn(value):
        monkeypatch.setattr(Rng, "uniform", lambda self, *shape, device=None: torch.full((2, *shape), value))

    drawn(1.0)
    assert torch.equal(Rotation(degrees=90)(x, rng=Rng(0)), x.rot90(-1, (2, 3)))
    drawn(0.0)
    assert torch.equal(Rotation(degrees=90)(x, rng=Rng(0)), x.rot90(1, (2, 3)))
    slanted = Shear(degrees=45)(x, rng=Rng(0))
    for row in range(9):
        # the rows below the middle go right
        moved = torch.zeros(2, 3, 9)
        shift = row - 4
        if shift >= 0:
            moved[..., shift:] = x[..., row, : 9 - shift]
        else:
            moved[..., :shift] = x[..., row, -shift:]
        assert torch.equal(slanted[..., row, :], moved)


def test_angles_are_uniform_and_each_image_has_its_own():
    drawn = np.array(angles(40, range(4000)))
    assert len(set(drawn)) > 3900
    assert abs(drawn).max() < 40 and abs(drawn.mean()) < 1.5
    assert drawn.std() == pytest.approx(40 / math.sqrt(3), rel=0.03)


@every_set
@every_interpolation
def test_a_row_depends_neither_on_its_batch_nor_on_the_order(method, interpolation):
    x, ids = photos(7, 3, 24, 33), torch.tensor([5, 0, 1000, 3, 77, 12, 8])
    made = replace(method, interpolation=interpolation)
    together = made(x, rng=Rng(3).rows(ids))
    one_by_one = [made(x[i : i + 1], rng=Rng(3).rows(ids[i : i + 1])) for i in range(7)]
    assert torch.equal(torch.cat(one_by_one), together)
    perm = torch.tensor([4, 6, 0, 2, 5, 1, 3])
    assert torch.equal(made(x[perm], rng=Rng(3).rows(ids[perm])), together[perm])


@every_set
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shape_dtype_and_range_are_kept_and_the_input_is_not_written(method, dtype):
    x = photos(3).to(dtype)
    before = x.clone()
    found = method(x, rng=Rng(0))
    assert (found.shape, found.dtype) == (x.shape, dtype) and torch.equal(x, before)
    assert found.min() >= 0 and found.max() <= 1 and not torch.equal(found, x)
    assert method(x[:0], rng=Rng(0)).shape == (0, 3, 32, 32)


@every_set
def test_pixels_outside_the_box_are_refused(method):
    with pytest.raises(DataError, match=r"expected pixels in \[0, 1\]"):
        method(photos(2) * 2, rng=Rng(0))


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (Rotation, {"degrees": -1}),
        (Rotation, {"degrees": 181}),
        (Shear, {"degrees": 90}),
        (Scale, {"content": 0}),
        (Scale, {"interpolation": "cubic"}),
        (Scale, {"severity": 3}),
    ],
)
def test_fields_out_of_range_are_refused(cls, wrong):
    with pytest.raises(ValidationError):
        cls(**wrong)
