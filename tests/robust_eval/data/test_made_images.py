"""Sets of images that are in no file: noise, and others' images at another size."""

import pytest
import torch
from scipy.stats import norm

from robust_eval import Rng
from robust_eval.data import NOISE, Examples, noise, resized

SHAPE = (3, 8, 8)


def test_noise_is_in_the_box_with_the_moments_of_its_distribution():
    uniform, normal = (noise(name, 200, SHAPE, rng=Rng(0)).images for name in NOISE)
    for x in (uniform, normal):
        assert x.shape == (200, *SHAPE) and x.min() >= 0 and x.max() <= 1
        assert x.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 12, rel=0.02)
    # clipped at half a standard deviation
    for end in (0, 1):
        assert (normal == end).double().mean().item() == pytest.approx(norm.cdf(-0.5), abs=0.01)


@pytest.mark.parametrize("name", NOISE)
def test_a_row_of_noise_depends_on_its_id_and_the_seed_only(name):
    whole = noise(name, 200, SHAPE, rng=Rng(0)).images
    assert torch.equal(noise(name, 5, SHAPE, rng=Rng(0)).images, whole[:5])
    rows = Rng(0).rows(torch.tensor([150, 3]))
    assert torch.equal(noise(name, 2, SHAPE, rng=rows).images, whole[[150, 3]])
    assert not torch.equal(noise(name, 200, SHAPE, rng=Rng(1)).images, whole)


def test_noise_has_no_labels_to_speak_of():
    found = noise("uniform", 4, SHAPE, rng=Rng(0))
    assert found.classes == 1 and not found.labels.any() and found.source == "uniform noise"


def test_resizing_leaves_an_even_image_even_and_changes_the_identity():
    x = torch.tensor([0.2, 0.7]).view(2, 1, 1, 1).expand(2, *SHAPE)
    examples = Examples(x.clone(), torch.tensor([0, 1]), 2)
    for size in ((4, 4), (16, 12)):
        found = resized(examples, size)
        assert found.shape == (3, *size) and found.fingerprint != examples.fingerprint
        torch.testing.assert_close(found.pixels(), x[:, :, :1, :1].expand(2, 3, *size))
        assert torch.equal(found.labels, examples.labels)


def test_halving_averages_neighbours_away_from_the_border():
    ramp = torch.linspace(0, 1, 8).expand(1, 3, 8, 8).clone()
    found = resized(Examples(ramp, torch.tensor([0]), 1), (8, 4)).pixels()
    # a ramp stays a ramp wherever the filter does not reach over the border
    torch.testing.assert_close(found[..., 1:3], ramp.view(1, 3, 8, 4, 2).mean(-1)[..., 1:3])
