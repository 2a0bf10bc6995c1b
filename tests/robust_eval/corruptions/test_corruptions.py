import colorsys
import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from robust_eval import Rng, corruption
from robust_eval.corruptions import _severity
from robust_eval.corruptions._severity import parameters
from robust_eval.corruptions.noise import _table_poisson
from robust_eval.errors import DataError
from robust_eval.registry import names

GROUPS = {
    "noise": {"gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"},
    "blur": {"defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"},
    "weather": {"snow", "frost", "fog", "brightness", "spatter"},
    "digital": {"contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"},
}
SHAPES = [(32, 32), (64, 64), (24, 40), (8, 8)]
SEVERITIES = [1, 2, 3, 4, 5]
ALL = names("corruption")

every_severity = pytest.mark.parametrize("severity", SEVERITIES)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def photos(n, height=32, width=32, channels=3):
    """Colours with detail at every scale, the finer the fainter, and a hard edge, in 8-bit levels."""
    generator = torch.Generator().manual_seed(height * width)
    smooth = torch.zeros(n, channels, height, width)
    for octave in range(2, max(height, width).bit_length()):
        detail = torch.rand(n, channels, 2**octave, 2**octave, generator=generator) - 0.5
        smooth += 4 * 0.5**octave * torch.nn.functional.interpolate(detail, (height, width), mode="bilinear")
    for row in range(n):
        top, left = (int(torch.randint(side // 2, (), generator=generator)) for side in (height, width))
        box = smooth[row, :, top : top + height // 3, left : left + width // 3]
        box += torch.rand(channels, 1, 1, generator=generator) - 0.5
    return ((smooth + 0.5).clamp(0, 1) * 255).round() / 255


def flat(value, n=64):
    return torch.full((n, 3, 32, 32), value)


def as_array(x):
    """One image as [h, w, c] in float64."""
    return x.permute(1, 2, 0).double().numpy()


def as_pil(x):
    pixels = (as_array(x) * 255).round().astype(np.uint8)
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])


def assert_matches(name, severity, x, reference, *, within, **kwargs):
    expected = np.stack([np.clip(reference(image), 0, 1) for image in x])
    got = (
        corruption(name, severity=severity)(x, rng=Rng(0).for_batch(len(x)))
        .permute(0, 2, 3, 1)
        .double()
        .numpy()
    )
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= within


# Deterministic operators, against PIL, scipy, colorsys and numpy


@every_shape
@every_severity
def test_gaussian_blur_matches_scipy(shape, severity):
    (sigma,) = parameters("gaussian_blur", min(shape), severity)

    def reference(image):
        return ndimage.gaussian_filter(as_array(image), (sigma, sigma, 0), mode="nearest", truncate=4)

    assert_matches("gaussian_blur", severity, photos(3, *shape), reference, within=1e-5)


def scipy_disk(radius, sigma):
    half, reach = (8, 1) if radius <= 8 else (radius, 2)
    i, j = np.mgrid[-half : half + 1, -half : half + 1]
    disk = (i**2 + j**2 <= radius**2).astype(float)
    return ndimage.gaussian_filter(disk / disk.sum(), sigma, mode="mirror", radius=reach)


@pytest.mark.parametrize("shape", [*SHAPES, (120, 113)], ids=str)
@every_severity
def test_defocus_blur_matches_a_disk_correlated_by_scipy(shape, severity):
    kernel = scipy_disk(*parameters("defocus_blur", min(shape), severity))

    def reference(image):
        return ndimage.correlate(as_array(image), kernel[..., None], mode="mirror")

    assert_matches("defocus_blur", severity, photos(2, *shape), reference, within=1e-5)


def in_hsv(image, change):
    pixels = as_array(image)
    flat_pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in pixels.reshape(-1, 3)]
    return np.array(flat_pixels).reshape(pixels.shape)


@every_severity
def test_brightness_adds_to_the_value_of_hsv(severity):
    (lift,) = parameters("brightness", 32, severity)
    x = photos(2, 16, 16)
    x[0, :, :2] = 0

    def reference(image):
        return in_hsv(image, lambda h, s, v: (h, s, min(v + lift, 1)))

    assert_matches("brightness", severity, x, reference, within=1e-5)


@every_severity
def test_saturate_scales_the_saturation_of_hsv(severity):
    factor, shift = parameters("saturate", 32, severity)
    x = photos(2, 16, 16)
    x[0, :, :2] = 0
    x[0, :, 2:4] = 0.6

    def reference(image):
        return in_hsv(image, lambda h, s, v: (h, min(max(s * factor + shift, 0), 1), v))

    assert_matches("saturate", severity, x, reference, within=1e-5)


@every_shape
@every_severity
def test_contrast_shrinks_the_distance_to_each_channels_mean(shape, severity):
    (kept,) = parameters("contrast", min(shape), severity)

    def reference(image):
        mean = as_array(image).mean((0, 1))
        return (as_array(image) - mean) * kept + mean

    assert_matches("contrast", severity, photos(3, *shape), reference, within=1e-5)


@every_shape
@every_severity
def test_jpeg_compression_is_what_pil_writes_and_reads(shape, severity):
    (quality,) = parameters("jpeg_compression", min(shape), severity)

    def reference(image):
        file = BytesIO()
        as_pil(image).save(file, "JPEG", quality=int(quality))
        return np.array(Image.open(file)) / 255

    assert_matches("jpeg_compression", severity, photos(3, *shape), reference, within=1e-6)


@pytest.mark.parametrize("shape", [*SHAPES, (224, 224), (31, 57)], ids=str)
@every_severity
def test_pixelate_matches_pil_boxes_down_and_up(shape, severity):
    (fraction,) = parameters("pixelate", min(shape), severity)
    height, width = shape
    small = (int(width * fraction), int(height * fraction))

    def in_bytes(image):
        coarse = (
            as_pil(image).resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
        )
        return np.array(coarse) / 255

    def in_floats(image):
        planes = [Image.fromarray(plane.numpy()).resize(small, Image.Resampling.BOX) for plane in image]
        return np.stack([np.array(p.resize((width, height), Image.Resampling.BOX)) for p in planes], -1)

    x = photos(2, *shape)
    assert_matches("pixelate", severity, x, in_bytes, within=1 / 255 + 1e-6)
    assert_matches("pixelate", severity, x, in_floats, within=1e-6)


def pointwise_plasma(noise, decay):
    """Diamond-square one point at a time, on a torus."""
    side = len(noise)
    height = {(0, 0): 0.0}
    step, roughness = side, 1.0
    while step >= 2:
        half = step // 2
        centres = [(i, j) for i in range(half, side, step) for j in range(half, side, step)]
        beside = [
            (i, j) for i in range(0, side, half) for j in range(0, side, half) if (i // half + j // half) % 2
        ]
        for points, ring in (
            (centres, [(-half, -half), (-half, half), (half, -half), (half, half)]),
            (beside, [(-half, 0), (half, 0), (0, -half), (0, half)]),
        ):
            for i, j in points:
                around = [height[(i + di) % side, (j + dj) % side] for di, dj in ring]
                height[i, j] = sum(around) / 4 + roughness * noise[i, j]
        step, roughness = half, roughness / decay**2
    cloud = np.array([[height[i, j] for j in range(side)] for i in range(side)])
    return (cloud - cloud.min()) / (cloud.max() - cloud.min())


@pytest.mark.parametrize(("shape", "side"), [((32, 32), 32), ((24, 40), 64)], ids=str)
@every_severity
def test_fog_lays_a_diamond_square_fractal_over_the_image(shape, side, severity):
    strength, decay = parameters("fog", min(shape), severity)
    x = photos(1, *shape)
    noise = 2 * Rng(0).for_batch(1).child("plasma").uniform(side, side)[0].double().numpy() - 1
    cloud = pointwise_plasma(noise, decay)[: shape[0], : shape[1], None]

    def reference(image):
        brightest = float(image.max())
        return (as_array(image) + strength * cloud) * brightest / (brightest + strength)

    assert_matches("fog", severity, x, reference, within=1e-5)


def test_fog_differs_between_images_and_spans_its_range_before_it_is_cut():
    x = flat(1.0, n=8)
    fogged = corruption("fog", severity=5)(x, rng=Rng(0).for_batch(len(x)))
    assert not torch.equal(fogged[0], fogged[1])
    # a white image x gives (1 + 1.5 f) / 2.5 with f reaching 0 and 1
    assert torch.allclose(fogged.amin((1, 2, 3)), torch.tensor(0.4))
    assert torch.allclose(fogged.amax((1, 2, 3)), torch.tensor(1.0))
    assert torch.equal(fogged[:, 0], fogged[:, 1])


# Random operators, against the distribution they claim


def unclipped(name, severity, x):
    return corruption(name, severity=severity).apply(x, rng=Rng(7).for_batch(len(x)))


@pytest.mark.parametrize("value", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "speckle_noise"])
def test_noise_keeps_the_mean_and_has_the_stated_variance(name, severity, value):
    (c,) = parameters(name, 32, severity)
    variance = {"gaussian_noise": c**2, "shot_noise": value / c, "speckle_noise": (c * value) ** 2}[name]
    noisy = unclipped(name, severity, flat(value)).double()
    count = noisy.numel()
    assert abs(noisy.mean() - value) < 4 * math.sqrt(variance / count)
    assert abs(noisy.var() / variance - 1) < 4 * math.sqrt(2.5 / count)


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise"])
def test_noise_is_normal(name):
    z = unclipped(name, 3, flat(0.5)).flatten()[:50_000].double().numpy()
    assert stats.kstest((z - z.mean()) / z.std(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("value", [0.0, 0.004, 0.0373, 0.41, 0.9, 1.0])
@pytest.mark.parametrize(
    ("shape", "severity"), [((64, 3, 32, 32), 1), ((64, 3, 32, 32), 5), ((3, 3, 224, 224), 5)]
)
def test_shot_noise_counts_are_poisson(shape, severity, value):
    (photons,) = parameters("shot_noise", shape[-1], severity)
    rate = float(torch.tensor(value)) * photons
    counts = (unclipped("shot_noise", severity, torch.full(shape, value)) * photons).double().numpy().ravel()
    assert np.abs(counts - counts.round()).max() < 1e-3
    observed = np.bincount(counts.round().astype(int), minlength=2)
    if value == 0:
        assert observed[1:].sum() == 0
        return
    expected = stats.poisson.pmf(np.arange(len(observed)), rate) * counts.size
    common = expected >= 10
    observed = [*observed[common], observed[~common].sum()]
    expected = [*expected[common], counts.size - expected[common].sum()]
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True) if e > 1e-9)
    assert stats.chi2.sf(statistic, len(expected) - 1) > 1e-4


def test_the_poisson_table_is_scipys_quantile_function_out_to_the_tails():
    bins = torch.tensor([0, 1, 2, 1000, 2**23, 2**24 - 3, 2**24 - 2, 2**24 - 1]).repeat(6, 1)
    rates = torch.tensor([0, 1, 3, 60, 499, 500])[:, None].expand_as(bins)
    expected = stats.poisson.ppf((bins.double().numpy() + 0.5) / 2**24, rates.double().numpy())
    assert np.array_equal(_table_poisson(rates.int(), 500, bins / 2**24).numpy(), np.maximum(expected, 0))


def test_shot_noise_of_neighbouring_values_is_uncorrelated():
    noisy = unclipped("shot_noise", 3, flat(0.373)) - 0.373
    shifted = (noisy[..., 1:] * noisy[..., :-1]).mean() / noisy.var()
    across = (noisy[:, 0] * noisy[:, 1]).mean() / noisy.var()
    assert abs(shifted) < 0.01
    assert abs(across) < 0.02


@every_severity
def test_impulse_noise_replaces_the_stated_fraction_and_leaves_the_rest(severity):
    (amount,) = parameters("impulse_noise", 32, severity)
    noisy = unclipped("impulse_noise", severity, flat(0.3))
    error = 4 * math.sqrt(amount / 2 / noisy.numel())
    assert abs((noisy == 1).float().mean() - amount / 2) < error
    assert abs((noisy == 0).float().mean() - amount / 2) < error
    assert ((noisy == 0) | (noisy == 1) | (noisy == flat(0.3))).all()


# Laws of single corruptions


NEUTRAL = {
    "gaussian_noise": (0.0,),
    "impulse_noise": (0.0,),
    "speckle_noise": (0.0,),
    "defocus_blur": (0.0, 0.01),
    "fog": (0.0, 2.0),
    "brightness": (0.0,),
    "contrast": (1.0,),
    "saturate": (1.0, 0.0),
    "pixelate": (1.0,),
    "glass_blur": (0.01, 1, 0),
    "motion_blur": (6, 0.01),
    "zoom_blur": (1.005, 0.01),
    "frost": (1.0, 0.0, 1.0),
    "snow": (0.0, 0.0, 1.5, 0.5, 6, 1, 1.0),
    "spatter": (0.0, 0.0, 1.0, 0.5, 0.5, 0),
    "elastic_transform": (0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_parameters_return_the_image(name, monkeypatch):
    monkeypatch.setattr(_severity, "parameters", lambda *_: tuple(map(float, NEUTRAL[name])))
    x = photos(4)
    assert torch.allclose(corruption(name)(x, rng=Rng(0)), x, atol=1e-5)


BLURS = [
    "defocus_blur",
    "gaussian_blur",
    "contrast",
    "pixelate",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "elastic_transform",
]


@pytest.mark.parametrize("name", BLURS)
@every_severity
def test_a_flat_image_has_nothing_to_blur(name, severity):
    x = flat(0.37, n=2)
    assert torch.allclose(corruption(name, severity=severity)(x, rng=Rng(0)), x, atol=1e-6)


def test_a_grey_image_has_no_colours_to_scale():
    x = photos(2, channels=1)
    assert torch.equal(corruption("saturate", severity=5)(x, rng=Rng(0)), x)


def test_brightness_adds_to_a_grey_image():
    x = photos(2, channels=1)
    assert torch.allclose(corruption("brightness", severity=3)(x, rng=Rng(0)), (x + 0.15).clamp(max=1))


@pytest.mark.parametrize("name", ["saturate", "jpeg_compression", "snow", "frost", "spatter"])
def test_methods_that_need_colours_refuse_four_channels(name):
    with pytest.raises(DataError, match=r"1 \(grey\) or 3 \(RGB\) channels, got 4"):
        corruption(name)(torch.zeros(1, 4, 8, 8), rng=Rng(0))


@pytest.mark.parametrize("group", GROUPS)
def test_groups_are_those_of_the_benchmark(group):
    assert {name for name in ALL if corruption(name).group == group} >= GROUPS[group]


@pytest.mark.parametrize(
    ("side", "photons"), [(8, 100), (32, 100), (48, 100), (49, 50), (64, 50), (112, 50), (113, 12), (224, 12)]
)
def test_the_nearest_table_is_used(side, photons):
    assert parameters("shot_noise", side, 3) == (photons,)
