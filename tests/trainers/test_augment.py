import pytest
import torch
from torch.nn import functional

from robust_eval.rng import Rng
from trainers.augment import crop, flip


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


@pytest.mark.parametrize("change", [lambda x, rng: crop(x, 2, rng=rng), lambda x, rng: flip(x, rng=rng)])
def test_the_draw_of_an_image_does_not_depend_on_its_batch(x, change):
    rng, part = Rng(0).rows(torch.arange(40)), torch.tensor([31, 4, 9])
    assert torch.equal(change(x, rng)[part], change(x[part], rng.select(part)))
