import pytest
import torch
from torch import nn

from defenses.flip_crop import FlipCrop
from robust_eval import Rng
from robust_eval.errors import ConfigError
from robust_eval.registry import build


class Spy(nn.Module):
    """Three logits that curve in a weighted mean; keeps what it was given."""

    def forward(self, x):
        self.seen = x
        ramp = torch.linspace(0, 1, x[0].numel(), dtype=x.dtype)
        mean = (x.flatten(1) * ramp).mean(1, keepdim=True)
        return torch.cat([6 * mean, 8 * mean**2, torch.sin(9 * mean)], 1)


def copies_of(x, **params):
    network = Spy()
    module = FlipCrop(**params).wrap(network)
    module.redraw(Rng(0))
    output = module(x)
    return network.seen.unflatten(0, (len(x), -1)), output


def every_version(image, crop):
    """Each of the places a copy may be cut at, as it is and mirrored."""
    _, h, w = image.shape
    padded = nn.functional.pad(image, 4 * (crop,))
    cut = [
        padded[:, top : top + h, left : left + w]
        for top in range(2 * crop + 1)
        for left in range(2 * crop + 1)
    ]
    return torch.stack([version for image in cut for version in (image, image.flip(2))])


def test_every_place_and_both_mirrorings_are_equally_likely():
    x = torch.rand(1, 2, 3, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    copies, _ = copies_of(x, crop=1, copies=3600)
    versions = every_version(x[0], 1)
    which = (copies[0][:, None] == versions).flatten(2).all(2)
    assert which.any(1).all()
    counts = which.sum(0).double()
    assert len(counts) == 18 and counts.sum() == 3600
    assert ((counts - 200) ** 2 / 200).sum() < 33.4  # chi-square, 17 degrees of freedom, 99 %


def test_a_copy_is_the_image_moved_by_at_most_the_padding():
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    copies, _ = copies_of(x)
    assert copies.shape == (6, 10, 3, 8, 8)
    for image, own in zip(x, copies, strict=True):
        versions = every_version(image, 4)
        assert (own[:, None] == versions).flatten(2).all(2).any(1).all()


def test_without_padding_the_image_and_its_mirror_image_are_averaged_once_each():
    x = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    copies, output = copies_of(x, crop=0, copies=7)
    assert torch.equal(copies, torch.stack([x, x.flip(3)], 1))
    torch.testing.assert_close(output.exp(), (Spy()(x).softmax(1) + Spy()(x.flip(3)).softmax(1)) / 2)


def test_the_output_is_the_mean_of_the_copies_probabilities():
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    copies, output = copies_of(x)
    expected = Spy()(copies.flatten(0, 1)).softmax(1).unflatten(0, (6, 10)).mean(1)
    torch.testing.assert_close(output.exp(), expected)


def test_the_variance_of_the_average_falls_as_one_over_the_copies():
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).expand(4000, 1, 4, 4)
    variances = [copies_of(x, copies=copies)[1].exp().var(0) for copies in (1, 4, 16)]
    torch.testing.assert_close(variances[0] / variances[1], torch.full((3,), 4.0), rtol=0.12, atol=0)
    torch.testing.assert_close(variances[0] / variances[2], torch.full((3,), 16.0), rtol=0.12, atol=0)


@pytest.mark.parametrize("params", [{"crop": -1}, {"copies": 0}])
def test_fields_out_of_range_are_refused(params):
    (field,) = params
    with pytest.raises(ConfigError, match=f"defense 'flip_crop': {field}: "):
        build("defense", "flip_crop", params)


def test_images_no_larger_than_the_padding_are_refused():
    assert FlipCrop(crop=7).misfit((3, 8, 9)) is None
    assert "crop: expected less than the images' side of 8 pixels, got 8" in FlipCrop(crop=8).misfit(
        (3, 8, 9)
    )
