import pytest
import torch
from torch.nn import functional
from torchvision.transforms.v2 import functional as reference

from robust_eval.rng import Rng
from trainers.augment import crop, flip, random_boxes, resized_crop


@pytest.fixture(params=[torch.uint8, torch.float32], ids=str)
def x(request):
    images = torch.randint(1, 255, (40, 3, 5, 6), generator=torch.Generator().manual_seed(0))
    return images.to(request.param)


def test_each_crop_is_a_window_of_the_padded_image(x):
    cropped = crop(x, 2, rng=Rng(0))
    assert cropped.dtype == x.dtype and cropped.is_contiguous()
    padded = functional.pad(x, (2, 2, 2, 2))
    places = set()
    for before, after in zip(padded, cropped, strict=True):
        windows = {
            (i, j) for i in range(5) for j in range(5) if torch.equal(before[:, i : i + 5, j : j + 6], after)
        }
        assert len(windows) == 1
        places |= windows
    assert len(places) > 12


def test_each_image_is_mirrored_or_not(x):
    flipped = flip(x, rng=Rng(0))
    same = (flipped == x).flatten(1).all(1)
    mirrored = (flipped == x.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 10 <= mirrored.sum() <= 30


@pytest.mark.parametrize(
    "change",
    [
        lambda x, rng: crop(x, 2, rng=rng),
        lambda x, rng: flip(x, rng=rng),
        lambda x, rng: resized_crop(x.float(), rng=rng),
    ],
    ids=["crop", "flip", "resized_crop"],
)
def test_the_draw_of_an_image_does_not_depend_on_its_batch(x, change):
    rng, part = Rng(0).rows(torch.arange(40)), torch.tensor([31, 4, 9])
    assert torch.equal(change(x, rng)[part], change(x[part], rng.select(part)))


@pytest.mark.parametrize("size", [(32, 32), (20, 31), (9, 40)])
def test_a_resized_crop_is_that_of_torchvision(size):
    x = torch.rand(30, 3, *size, generator=torch.Generator().manual_seed(0))
    boxes = random_boxes(30, *size, rng=Rng(5))
    expected = [
        reference.resized_crop(image, *map(int, box), size=list(size), antialias=False)
        for image, *box in zip(x, *boxes, strict=True)
    ]
    torch.testing.assert_close(resized_crop(x, rng=Rng(5)), torch.stack(expected), atol=2e-6, rtol=0)


def test_a_resized_crop_stays_in_the_range_of_its_image():
    x = torch.rand(200, 1, 16, 16, generator=torch.Generator().manual_seed(0)) + torch.arange(200).view(
        -1, 1, 1, 1
    )
    cropped = resized_crop(x, rng=Rng(1))
    assert (cropped.amin((1, 2, 3)) >= x.amin((1, 2, 3))).all()
    assert (cropped.amax((1, 2, 3)) <= x.amax((1, 2, 3))).all()
    assert torch.equal(resized_crop(torch.ones(9, 3, 5, 5), rng=Rng(1)), torch.ones(9, 3, 5, 5))


@pytest.mark.parametrize(("h", "w"), [(224, 224), (200, 150), (8, 8), (2, 2)])
def test_boxes_lie_inside_and_have_areas_and_ratios_as_published(h, w):
    top, left, height, width = random_boxes(4000, h, w, rng=Rng(0))
    assert min(top.min(), left.min()) >= 0 and min(height.min(), width.min()) >= 1
    assert (top + height).max() <= h and (left + width).max() <= w
    if h > 100:
        area, ratio = height * width / (h * w), width / height
        assert 0.08 - 0.01 <= area.min() < 0.09 and area.max() <= 1
        assert ratio.min() > 0.74 and ratio.max() < 1.35


def test_areas_and_places_of_small_boxes_are_even():
    top, left, height, width = random_boxes(20000, 1000, 1000, rng=Rng(0))
    # any shape of up to three quarters of the area fits
    area = height * width / 1e6
    counts = torch.histc(area[area < 0.72].float(), 8, 0.08, 0.72)
    assert (counts / counts.mean() - 1).abs().max() < 0.1
    for start, side in ((top, height), (left, width)):
        assert (start / (1000 - side).clamp(min=1)).mean() == pytest.approx(0.5, abs=0.02)
    log_ratio = (width / height)[area < 0.7].log()
    assert log_ratio.mean() == pytest.approx(0, abs=0.01)
    # an even distribution over log(3/4)..log(4/3)
    assert log_ratio.std() == pytest.approx(2 * 0.28768 / 12**0.5, rel=0.03)


@pytest.mark.parametrize(("h", "w", "box"), [(4, 100, (0, 47, 4, 5)), (100, 4, (47, 0, 5, 4))])
def test_where_no_box_fits_it_is_the_largest_in_the_middle(h, w, box):
    # the smallest box has 0.08 * 400 = 32 pixels, so that its shorter side has 5
    found = random_boxes(10, h, w, rng=Rng(0))
    assert {tuple(map(int, each)) for each in zip(*found, strict=True)} == {box}
