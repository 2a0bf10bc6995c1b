"""The picture of a change shows what is below a level of 8 bits, and gives the attacked image back."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from robust_eval.results.difference import difference, magnified, recomposed
from robust_eval.results.thumbnail import LONGEST, thumbnail


def opened(text):
    return Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"])


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1 / 255, 8 / 255, 0.031, 32 / 255, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("shape", "levels"), [((1, 8, 8), 2), ((3, 32, 32), 2), ((3, 160, 120), 4)])
def test_clean_and_change_give_the_adversarial_to_within_two_levels_or_four_if_scaled_down(
    shape, levels, scale
):
    clean = random(*shape)
    adversarial = (clean + (2 * random(*shape, seed=1) - 1) * scale).clamp(0, 1)
    before = opened(thumbnail(clean)).convert("RGB")
    change = opened(difference(adversarial - clean, scale)).convert("RGB")
    found = recomposed(before, change, scale)
    expected = np.asarray(opened(thumbnail(adversarial)).convert("RGB")).transpose(2, 0, 1)
    assert max(found.shape) <= LONGEST
    assert np.abs(255 * found.numpy() - expected).max() <= levels


def test_no_change_is_grey_and_the_scale_fills_the_range_on_either_side():
    change = torch.tensor([[[0.0, 0.1, -0.1, 0.05]]])
    assert np.asarray(opened(difference(change, 0.1))).tolist() == [[128, 255, 1, 192]]


def test_a_change_below_a_level_of_8_bits_is_seen():
    change = torch.full((1, 2, 2), 0.2 / 255)
    assert opened(thumbnail(torch.full((1, 2, 2), 0.5) + change)).getextrema() == (128, 128)
    assert opened(difference(change, 0.2 / 255)).getextrema() == (255, 255)


def test_it_is_magnified_by_as_much_as_is_said():
    scale, change = 8 / 255, 4 / 255
    (shown, _) = opened(difference(torch.full((1, 1, 1), change), scale)).getextrema()
    assert (shown - 128) / (255 * change) == pytest.approx(magnified(scale), abs=0.2)


def test_what_is_not_finite_is_no_change():
    change = torch.tensor([[[float("nan"), 0.0]]])
    assert np.asarray(opened(difference(change, 0.1))).tolist() == [[128, 128]]
