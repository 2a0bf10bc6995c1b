from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from defenses.jpeg import Jpeg
from robust_eval.errors import ConfigError, DataError
from robust_eval.registry import build


class Spy(nn.Module):
    """Keeps what it was given."""

    def forward(self, x):
        self.seen = x
        return x.flatten(1)[:, :3]


def images(channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, channels, 16, 16, generator=generator, dtype=torch.float64).to(dtype)


def seen(x, **params):
    network = Spy()
    Jpeg(**params).wrap(network)(x)
    return network.seen


@pytest.mark.parametrize("quality", [10, 75])
def test_the_network_sees_what_pillow_reads_from_the_file(quality):
    x = images()
    for image, got in zip(x, seen(x, quality=quality), strict=True):
        file = BytesIO()
        pixels = np.round(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
        assert torch.equal(got, expected)


def test_a_lower_quality_is_further_from_the_image():
    x = images()
    errors = [(seen(x, quality=quality) - x).square().mean() for quality in (5, 30, 75, 100)]
    assert errors == sorted(errors, reverse=True)


def test_grey_images_keep_their_channel_and_their_type():
    x = images(1, torch.float64)
    assert seen(x).shape == x.shape and seen(x).dtype == torch.float64


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(DataError, match="expected images with 1"):
        seen(images(2))


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(quality):
    with pytest.raises(ConfigError, match="defense 'jpeg': quality: "):
        build("defense", "jpeg", {"quality": quality})
