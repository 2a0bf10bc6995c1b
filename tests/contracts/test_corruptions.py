"""What every registered corruption promises. A new one is tested here without a line being added."""

import re

import pytest
import torch

from robust_eval import Rng, corruption
from robust_eval.corruptions._severity import Published
from robust_eval.errors import ConfigError, DataError
from robust_eval.identity import content_key
from robust_eval.methods import Corruption
from robust_eval.registry import build, describe, find, names

ALL = names("corruption")
PUBLISHED = [name for name in ALL if issubclass(find("corruption", name), Published)]
SEVERITIES = [1, 2, 3, 4, 5]

every_corruption = pytest.mark.parametrize("name", ALL)
every_published_corruption = pytest.mark.parametrize("name", PUBLISHED)


def photos(n, height=32, width=32, channels=3):
    """Colours with detail at every scale, the finer the fainter, in 8-bit levels."""
    generator = torch.Generator().manual_seed(height * width)
    smooth = torch.zeros(n, channels, height, width)
    for octave in range(2, max(height, width, 4).bit_length()):
        detail = torch.rand(n, channels, 2**octave, 2**octave, generator=generator) - 0.5
        smooth += 4 * 0.5**octave * torch.nn.functional.interpolate(detail, (height, width), mode="bilinear")
    return ((smooth + 0.5).clamp(0, 1) * 255).round() / 255


def settings(name, *severities, **fields):
    """The corruption at these severities; once, if it has none."""
    if name not in PUBLISHED:
        return [corruption(name)]
    return [corruption(name, severity=severity, **fields) for severity in severities]


def test_the_nineteen_of_the_benchmark_are_there():
    listed = """
        gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog
        brightness contrast elastic_transform pixelate jpeg_compression
        speckle_noise gaussian_blur spatter saturate
    """
    assert set(PUBLISHED) >= set(listed.split())


@pytest.mark.parametrize(
    ("shape", "side"), [((3, 32, 32), None), ((1, 24, 40), None), ((3, 48, 52), 224)], ids=str
)
@every_corruption
def test_a_row_does_not_depend_on_its_batch(name, shape, side):
    x = photos(7, *shape[1:], channels=shape[0])
    ids = torch.tensor([5, 0, 1000, 3, 77, 12, 8])
    for method in settings(name, 1, 3, 5, side=side):
        together = method(x, rng=Rng(3).rows(ids))

        one_by_one = [method(x[i : i + 1], rng=Rng(3).rows(ids[i : i + 1])) for i in range(7)]
        assert torch.equal(torch.cat(one_by_one), together)

        perm = torch.tensor([4, 6, 0, 2, 5, 1, 3])
        assert torch.equal(method(x[perm], rng=Rng(3).rows(ids[perm])), together[perm])

        strangers = torch.cat([x[:2], 1 - x[2:].flip(2)])
        assert torch.equal(method(strangers, rng=Rng(3).rows(ids))[:2], together[:2])


@every_corruption
def test_without_ids_an_image_is_known_by_its_pixels(name):
    x = photos(4, 16, 20)
    for method in settings(name, 3):
        whole = method(x.clone().requires_grad_(), rng=Rng(0))
        assert not whole.requires_grad
        for rows in (torch.tensor([3, 2, 1, 0]), torch.tensor([2])):
            assert torch.equal(method(x[rows], rng=Rng(0)), whole[rows])


@every_corruption
def test_a_batch_worked_on_in_parts_is_the_batch_at_once(name, monkeypatch):
    x = photos(5, 16, 20)
    (method,) = settings(name, 3)
    whole = method(x, rng=Rng(0))
    monkeypatch.setattr(Corruption, "at_once", 2 * x[0].numel())
    monkeypatch.setattr(type(method), "at_once", 2 * x[0].numel())
    assert torch.equal(method(x, rng=Rng(0)), whole)


@every_corruption
def test_the_seed_decides_what_is_drawn(name):
    x = photos(4)
    for method in settings(name, 3):
        same, again, other = (method(x, rng=Rng(seed)) for seed in (0, 0, 1))
        assert torch.equal(same, again)
        twins = method(x[:1].expand(2, -1, -1, -1), rng=Rng(0))
        # either it draws, for each image anew, or it does not
        assert torch.equal(same, other) == torch.equal(twins[0], twins[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape", [(2, 3, 32, 32), (2, 1, 28, 28), (2, 3, 8, 8), (2, 1, 8, 8), (1, 3, 9, 70)], ids=str
)
@every_corruption
def test_values_stay_in_range_and_shape_dtype_and_input_are_kept(name, shape, dtype):
    x = photos(shape[0], *shape[2:], channels=shape[1]).to(dtype)
    before = x.clone()
    for method in settings(name, *SEVERITIES):
        corrupted = method(x, rng=Rng(0))
        assert corrupted.shape == x.shape
        assert corrupted.dtype == dtype
        assert corrupted.isfinite().all()
        assert corrupted.min() >= 0
        assert corrupted.max() <= 1
    assert torch.equal(x, before)


@every_corruption
def test_black_and_white_images_give_finite_values(name):
    x = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    for method in settings(name, 5):
        assert method(x, rng=Rng(0)).isfinite().all()


@pytest.mark.parametrize("severity", [1, 5])
def test_fog_on_a_single_pixel_is_finite(severity):
    assert corruption("fog", severity=severity)(torch.rand(2, 3, 1, 1), rng=Rng(0)).isfinite().all()


@every_corruption
def test_an_empty_batch_stays_empty(name):
    assert corruption(name)(torch.zeros(0, 3, 32, 32), rng=Rng(0)).shape == (0, 3, 32, 32)


@every_corruption
def test_memory_layout_does_not_matter(name):
    x = photos(3)
    strided = x.contiguous(memory_format=torch.channels_last)
    for method in settings(name, 4):
        assert torch.allclose(method(strided, rng=Rng(0)), method(x, rng=Rng(0)), atol=1e-6)


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan")])
@every_corruption
def test_pixels_outside_the_range_are_refused(name, bad):
    with pytest.raises(DataError, match=r"expected pixels in \[0, 1\]"):
        corruption(name)(torch.full((1, 3, 8, 8), bad), rng=Rng(0))


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("side", [32, 224])
@every_published_corruption
def test_images_that_are_too_small_are_refused_with_the_least_size(name, side, severity):
    method = corruption(name, severity=severity, side=side)
    least = 1
    for pixels in range(1, 12):
        try:
            assert method(photos(1, pixels, pixels + 3), rng=Rng(0)).isfinite().all()
        except DataError as error:
            expected = f"at least (\\d+) x \\1 pixels at severity {severity}, got {pixels} x {pixels + 3}"
            found = re.search(f"^{name}: expected images of {expected}$", str(error))
            assert found, error
            least = int(found[1])
            assert pixels < least
        else:
            assert pixels >= least


# Steps at which the published parameters do not corrupt more than the step before, by column of the table.
NEVER = {32: {2, 3, 4, 5}, 64: {2, 3, 4, 5}, 224: {2, 3, 4, 5}}
NOT_RISING = {
    "saturate": {32: {3}, 64: {3}, 224: {3}},  # from nearly grey to slightly stronger colours
    "elastic_transform": NEVER,  # the waves get finer instead
    "glass_blur": NEVER,  # smoothing, moves and rounds take turns
    "frost": NEVER,  # the image gives way to the frost, whatever that is like
    "snow": {224: {3}},  # fewer flakes, and larger ones
    "motion_blur": {32: {4}},  # a longer trail of weights that are zero anyway
    "spatter": {32: {4}},  # from water to mud
}


@pytest.mark.parametrize("side", [32, 64, 120])
@every_published_corruption
def test_error_rises_with_severity(name, side):
    x = photos(8 if side == 120 else 32, side, side)
    rng = Rng(0).rows(torch.arange(len(x)))
    errors = [(corruption(name, severity=s)(x, rng=rng) - x).square().mean().item() for s in SEVERITIES]
    assert errors[0] > 0
    for severity in SEVERITIES[1:]:
        if severity not in NOT_RISING.get(name, {}).get(224 if side == 120 else side, ()):
            assert errors[severity - 1] > errors[severity - 2], errors


@pytest.mark.parametrize("severity", [0, 6])
@every_published_corruption
def test_severity_outside_one_to_five_is_refused(name, severity):
    with pytest.raises(ConfigError, match=r"severity: expected (>= 1|<= 5), got"):
        corruption(name, severity=severity)


@every_published_corruption
def test_a_side_without_a_table_is_refused(name):
    with pytest.raises(ConfigError, match=r"side: expected 32, 64 or 224, got 100"):
        corruption(name, side=100)


@every_published_corruption
def test_the_table_of_another_side_can_be_taken(name):
    x = photos(2, 32, 32)
    by_size, same, other = (
        corruption(name, severity=5, side=side)(x, rng=Rng(0)) for side in (None, 32, 224)
    )
    assert torch.equal(by_size, same)
    assert not torch.equal(by_size, other)


@every_corruption
def test_a_corruption_is_built_again_from_its_description(name):
    for method in settings(name, 2, side=64):
        described = describe(method)
        assert build("corruption", described.name, described.params) == method


@every_published_corruption
def test_a_side_is_part_of_the_identity_only_where_it_is_given(name):
    assert describe(corruption(name, severity=2)).params == {"severity": 2}
    assert describe(corruption(name, severity=2, side=64)).params == {"severity": 2, "side": 64}


@every_corruption
def test_the_description_is_plain_data(name):
    assert content_key(describe(corruption(name))._asdict())
