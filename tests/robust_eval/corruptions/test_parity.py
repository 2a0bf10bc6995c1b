"""The seven corruptions that move pixels or lay a picture over them, against loops, numpy, scipy and PIL.

A reference takes the draws of an operator as arguments. With those of the stream it gives the same image; with others
the same distribution.
"""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from robust_eval import Rng, corruption
from robust_eval.corruptions._severity import parameters
from robust_eval.corruptions._textures import TONES, drawn
from robust_eval.errors import ConfigError, DataError
from robust_eval.registry import build, describe

SEVERITIES = [1, 2, 3, 4, 5]
every_severity = pytest.mark.parametrize("severity", SEVERITIES)
# one for each column of the table, and one that is not square
every_shape = pytest.mark.parametrize("shape", [(32, 32), (64, 64), (120, 113), (24, 40)], ids=str)


def photos(n, height=32, width=32, channels=3):
    generator = torch.Generator().manual_seed(height * width)
    smooth = torch.zeros(n, channels, height, width)
    for octave in range(2, max(height, width).bit_length()):
        detail = torch.rand(n, channels, 2**octave, 2**octave, generator=generator) - 0.5
        smooth += 4 * 0.5**octave * torch.nn.functional.interpolate(detail, (height, width), mode="bilinear")
    return ((smooth + 0.5).clamp(0, 1) * 255).round() / 255


def as_array(x):
    return x.permute(1, 2, 0).double().numpy()


def stream(n, name, kind, *shape):
    """The draws that a corruption takes from seed 0."""
    return getattr(Rng(0).for_batch(n).child(*name), kind)(*shape).double().numpy()


def assert_matches(name, severity, x, reference, draws, *, within):
    expected = np.stack(
        [np.clip(reference(as_array(image), severity, *d), 0, 1) for image, d in zip(x, draws, strict=True)]
    )
    got = (
        corruption(name, severity=severity)(x, rng=Rng(0).for_batch(len(x)))
        .permute(0, 2, 3, 1)
        .double()
        .numpy()
    )
    assert np.abs(got - expected).max() <= within


# The published operators


def glass(image, severity, *moves, side=None):
    sigma, d, _ = parameters("glass_blur", side or min(image.shape[:2]), severity)
    h, w, d = *image.shape[:2], int(d)
    x = (ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest") * 255).astype(np.uint8)
    for u in moves:
        for i in range(h - d, d, -1):
            for j in range(w - d, d, -1):
                down, right = divmod(int(u[i - d - 1, j - d - 1] * 4 * d * d), 2 * d)
                there = i + down - d, j + right - d
                # what is written as a swap copies: both sides are views
                x[i, j], x[there] = x[there], x[i, j]
    return ndimage.gaussian_filter(x / 255, (sigma, sigma, 0), mode="nearest")


def trail(image, radius, sigma, angle):
    steps = np.arange(2 * int(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    total = np.zeros_like(image)
    for i, weight in zip(steps, weights, strict=True):
        down, right = (
            math.ceil(i * part - 0.5)
            for part in (math.sin(math.radians(angle)), math.cos(math.radians(angle)))
        )
        row, column = (
            np.clip(place, 0, side - 1)
            for place, side in ((rows + down, image.shape[0]), (columns + right, image.shape[1]))
        )
        total += weight * image[row, column]
    return total


def motion(image, severity, u):
    return trail(image, *parameters("motion_blur", min(image.shape[:2]), severity), 90 * float(u) - 45)


def zoomed(image, factor):
    h, w = image.shape[:2]
    rows, columns = math.ceil(h / factor), math.ceil(w / factor)
    top, left = (h - rows) // 2, (w - columns) // 2
    large = ndimage.zoom(image[top : top + rows, left : left + columns], (factor, factor, 1), order=1)
    top, left = (large.shape[0] - h) // 2, (large.shape[1] - w) // 2
    return large[top : top + h, left : left + w]


ENDS = {
    32: [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
    224: [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
}


def zoom(image, severity):
    end, step = ENDS[32 if min(image.shape[:2]) <= 112 else 224][severity - 1]
    factors = np.arange(1, end, step)
    return (image + sum(zoomed(image, factor) for factor in factors)) / (len(factors) + 1)


def snow(image, severity, z, u):
    mean, std, enlarged, cut, radius, sigma, kept = parameters("snow", min(image.shape[:2]), severity)
    h, w = image.shape[:2]
    noise = np.zeros((h, w, 1))
    rows, columns = z.shape
    top, left = (h - rows) // 2, (w - columns) // 2
    # of the noise only the middle is seen
    noise[top : top + rows, left : left + columns, 0] = mean + std * z
    layer = zoomed(noise, enlarged)
    layer[layer < cut] = 0
    layer = (np.clip(layer, 0, 1) * 255).astype(np.uint8) / 255
    layer = trail(layer, radius, sigma, 90 * float(u) - 135)
    brightness = image @ [[0.299], [0.587], [0.114]]
    image = kept * image + (1 - kept) * np.maximum(image, 1.5 * brightness + 0.5)
    return image + layer + np.rot90(layer, k=2)


def elastic(image, severity, corners, waves):
    h, w = image.shape[:2]
    alpha, sigma, aside = (part * min(h, w) for part in parameters("elastic_transform", min(h, w), severity))
    middle, reach = np.array([h // 2, w // 2]), min(h, w) // 3
    points = middle + reach * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = points + aside * (2 * corners - 1)
    inverse = np.linalg.solve(np.c_[moved, np.ones(3)], points).T
    channels = [
        ndimage.affine_transform(plane, inverse[:, :2], inverse[:, 2], order=1, mode="mirror")
        for plane in np.moveaxis(image, 2, 0)
    ]
    down, right = (
        alpha * ndimage.gaussian_filter(2 * u - 1, sigma, mode="reflect", truncate=3) if alpha else 0 * u
        for u in waves
    )
    rows, columns = np.mgrid[:h, :w]
    places = [rows + down, columns + right]
    return np.stack([ndimage.map_coordinates(c, places, order=1, mode="reflect") for c in channels], -1)


def canny(levels, low, high):
    dx, dy = (ndimage.sobel(levels.astype(int), axis, mode="nearest") for axis in (1, 0))
    steep = np.pad(abs(dx) + abs(dy), 1)
    kept = np.zeros(levels.shape, bool)
    for i, j in np.argwhere(steep[1:-1, 1:-1] > low):
        a, b = abs(dx[i, j]), abs(dy[i, j])
        if b < math.tan(math.pi / 8) * a:
            (before, after), strict = ((0, -1), (0, 1)), False
        elif b > math.tan(3 * math.pi / 8) * a:
            (before, after), strict = ((-1, 0), (1, 0)), False
        else:
            side = 1 if (dx[i, j] < 0) == (dy[i, j] < 0) else -1
            (before, after), strict = ((-1, -side), (1, side)), True
        here = steep[i + 1, j + 1]
        there = steep[i + 1 + after[0], j + 1 + after[1]]
        kept[i, j] = here > steep[i + 1 + before[0], j + 1 + before[1]] and (
            here > there if strict else here >= there
        )
    parts, _ = ndimage.label(kept, np.ones((3, 3)))
    sure = np.unique(parts[kept & (steep[1:-1, 1:-1] > high)])
    return np.isin(parts, sure) & kept


def walks(marked, longest):
    """Distances by the moves of a king and of a knight, one more move at a time."""
    moves = {(0, 1): 1, (1, 0): 1, (1, 1): 1.4, (1, -1): 1.4}
    moves |= {(1, 2): 2.1969, (2, 1): 2.1969, (1, -2): 2.1969, (2, -1): 2.1969}
    distance = np.where(marked, 0, longest).astype(float)
    while True:
        before, padded = distance, np.pad(distance, 2, constant_values=longest)
        for (down, right), length in moves.items():
            for sign in (-1, 1):
                i, j = 2 + sign * down, 2 + sign * right
                there = padded[i : i + marked.shape[0], j : j + marked.shape[1]]
                distance = np.minimum(distance, there + length)
        if np.array_equal(distance, before):
            return distance


def spatter(image, severity, z):
    mean, std, sigma, cut, last, mud = parameters("spatter", min(image.shape[:2]), severity)
    liquid = ndimage.gaussian_filter(mean + std * z, sigma, mode="nearest")
    liquid[liquid < cut] = 0
    if mud:
        place = ndimage.gaussian_filter((liquid > cut).astype(float), last, mode="nearest")
        place[place < 0.8] = 0
        return image * (1 - place[..., None]) + place[..., None] * np.array([63, 42, 20]) / 255
    levels = np.minimum(liquid * 255, 255).astype(np.uint8)
    distance = walks(canny(levels, 50, 150), 20)
    rounded = np.floor(ndimage.uniform_filter(distance, 3, mode="mirror") + 1e-6).astype(int)
    counts = np.bincount(rounded.ravel(), minlength=256).cumsum()
    lowest = counts[rounded.min()]
    if lowest < rounded.size:
        rounded = np.rint((counts - lowest) * 255 / (rounded.size - lowest))[rounded]
    lit = ndimage.correlate(rounded, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror")
    relief = np.rint(ndimage.uniform_filter(np.clip(lit, 0, 255).astype(float), 3, mode="mirror"))
    drops = levels * relief
    drops = last * drops / drops.max() if drops.any() else drops
    return image + drops[..., None] * np.array([175, 238, 238]) / 255


# The same draws


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (24, 40)], ids=str)
@every_severity
def test_glass_blur_is_the_published_loop(shape, severity):
    x = photos(2, *shape)
    _, d, rounds = parameters("glass_blur", min(shape), severity)
    inside = [side - 2 * int(d) for side in shape]
    moves = [stream(2, ("moves", i), "uniform", *inside) for i in range(int(rounds))]
    # the loop cuts the smoothed image to 8 bits
    assert_matches("glass_blur", severity, x, glass, zip(*moves, strict=True), within=1 / 255 + 1e-6)


def test_glass_blur_follows_chains_of_moves():
    x = torch.rand(1, 3, 30, 26)
    got = corruption("glass_blur", severity=5, side=224)(x, rng=Rng(0).for_batch(len(x)))
    moves = [stream(1, ("moves", i), "uniform", 22, 18)[0] for i in range(2)]
    expected = glass(as_array(x[0]), 5, *moves, side=224)
    assert np.abs(as_array(got[0]) - expected).max() <= 1 / 255 + 1e-6


def test_a_pixel_behind_glass_is_one_that_was_there():
    x = torch.arange(900).view(1, 1, 30, 30) / 900
    sigma = 1e-3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robust_eval.corruptions._severity.parameters", lambda *_: (sigma, 4.0, 3.0))
        moved = corruption("glass_blur")(x, rng=Rng(0).for_batch(len(x)))
    assert set(moved.flatten().tolist()) < set(x.flatten().tolist())
    rows = (moved[0, 0] * 900).round().numpy().astype(int) // 30
    assert 1 < abs(rows - np.arange(30)[:, None]).max() <= 12 + 4 * 3
    assert np.array_equal(moved[0, 0, :5], x[0, 0, :5])


@every_shape
@every_severity
def test_motion_blur_is_a_sum_of_shifted_images(shape, severity):
    x = photos(4, *shape)
    assert_matches("motion_blur", severity, x, motion, stream(4, ("angle",), "uniform", 1), within=1e-5)


@every_shape
@every_severity
def test_zoom_blur_is_scipys_zoom_at_the_published_factors(shape, severity):
    x = photos(2, *shape)
    assert_matches("zoom_blur", severity, x, zoom, [(), ()], within=1e-5)


@every_shape
@every_severity
def test_snow_falls_as_published(shape, severity):
    x = photos(3, *shape)
    enlarged = parameters("snow", min(shape), severity)[2]
    flakes = stream(3, ("flakes",), "normal", 1, *(math.ceil(side / enlarged) for side in shape))[:, 0]
    angles = stream(3, ("angle",), "uniform", 1)[:, 0]
    assert_matches("snow", severity, x, snow, zip(flakes, angles, strict=True), within=1 / 255)


@every_shape
@every_severity
def test_elastic_transform_is_scipys_affine_map_and_then_waves(shape, severity):
    x = photos(2, *shape)
    corners, waves = (
        stream(2, (name,), "uniform", *size) for name, size in (("corners", (3, 2)), ("waves", (2, *shape)))
    )
    assert_matches("elastic_transform", severity, x, elastic, zip(corners, waves, strict=True), within=1e-4)


@every_shape
@every_severity
def test_spatter_is_published_drop_for_drop(shape, severity):
    x = photos(2, *shape)
    liquid = stream(2, ("liquid",), "normal", 1, *shape)
    assert_matches("spatter", severity, x, spatter, liquid, within=1e-5)


# Other draws


def statistics(images):
    """Mean and standard deviation of every image, and the power in bands of frequency."""
    grey = images.mean(-1)
    power = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32)))
    bands = [
        (frequency > low) & (frequency <= high)
        for low, high in ((0, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 1))
    ]
    return np.stack(
        [grey.mean((1, 2)), grey.std((1, 2)), *(np.log(power[:, band].mean(1) + 1e-6) for band in bands)]
    )


OTHERS = {
    "glass_blur": (glass, lambda g, s: [g.random((30, 30)) for _ in range(2 if s > 3 else 1)]),
    "motion_blur": (motion, lambda g, s: [g.random()]),
    "snow": (
        snow,
        lambda g, s: [g.normal(size=[math.ceil(32 / parameters("snow", 32, s)[2])] * 2), g.random()],
    ),
    "elastic_transform": (elastic, lambda g, s: [g.random((3, 2)), g.random((2, 32, 32))]),
    "spatter": (spatter, lambda g, s: [g.normal(size=(32, 32))]),
}


@pytest.mark.parametrize("severity", [2, 5])
@pytest.mark.parametrize("name", OTHERS)
def test_mean_variance_and_spectrum_are_those_of_the_published_operator(name, severity):
    n, (reference, draw) = 100, OTHERS[name]
    x = photos(1).expand(n, -1, -1, -1)
    generator = np.random.default_rng(1)
    expected = [
        np.clip(reference(as_array(x[0]), severity, *draw(generator, severity)), 0, 1) for _ in range(n)
    ]
    got = (
        corruption(name, severity=severity)(x, rng=Rng(1).for_batch(len(x)))
        .permute(0, 2, 3, 1)
        .double()
        .numpy()
    )
    theirs, ours = statistics(np.stack(expected)), statistics(got)
    error = np.sqrt((theirs.var(1) + ours.var(1)) / n)
    # 8-bit steps in between move the mean by up to 1/255
    slack = np.array([1 / 255, 1 / 255, 0.02, 0.02, 0.02, 0.02])
    assert (np.abs(theirs.mean(1) - ours.mean(1)) < 4 * error + slack).all()


def test_angles_are_uniform_in_their_range():
    point = torch.zeros(400, 1, 41, 41)
    point[:, :, 20, 20] = 1
    ahead = corruption("motion_blur", severity=5)(point, rng=Rng(2))[:, 0]
    rows, columns = (torch.arange(41).float() - 20 for _ in range(2))
    down, right = (ahead.sum(2) * rows).sum(1), (ahead.sum(1) * columns).sum(1)
    # a pixel looks ahead, so a point leaves its trail behind
    angles = torch.rad2deg(torch.atan2(-down, -right))
    assert angles.abs().max() < 47
    assert abs(angles.mean()) < 4 * 26 / 20
    assert abs(angles.std() - 90 / math.sqrt(12)) < 3


# Frost


def folder_of(tmp_path, *pictures):
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"frost{i}.png")
    return str(tmp_path)


def test_frost_lays_a_crop_of_a_given_picture_over_the_image(tmp_path):
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (90, 70, 3), dtype=np.uint8) for _ in range(2)]
    x = photos(6, 40, 36)
    got = corruption("frost", severity=2, side=224, textures=folder_of(tmp_path, *pictures))(
        x, rng=Rng(0).for_batch(len(x))
    )
    for image, (which, down, right), corrupted in zip(
        x, stream(6, ("crop",), "uniform", 3), got, strict=True
    ):
        picture = pictures[int(2 * which)] / 255
        top, left = int(down * (90 - 40)), int(right * (70 - 36))
        expected = 0.8 * as_array(image) + 0.6 * picture[top : top + 40, left : left + 36]
        assert np.abs(as_array(corrupted) - expected.clip(0, 1)).max() < 1e-6


def test_frost_is_drawn_at_a_fifth_of_its_size_for_small_images(tmp_path):
    ramp = np.broadcast_to(np.arange(250, dtype=np.uint8)[:, None, None], (250, 250, 3)).copy()
    frost = corruption("frost", severity=5, textures=folder_of(tmp_path, ramp))(
        torch.zeros(4, 3, 32, 32), rng=Rng(0)
    )
    steps = (frost[:, :, 1:] - frost[:, :, :-1]) * 255 / 0.45
    assert torch.allclose(steps, torch.tensor(5.0), atol=1e-3)


def test_pictures_smaller_than_the_image_are_scaled_up(tmp_path):
    textures = folder_of(tmp_path, np.full((5, 4, 3), 200, dtype=np.uint8))
    frost = corruption("frost", severity=1, textures=textures)(torch.zeros(1, 3, 32, 50), rng=Rng(0))
    assert torch.allclose(frost, torch.tensor(0.2 * 200 / 255))


def test_pictures_are_known_by_their_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    picture = np.full((40, 40, 3), 9, dtype=np.uint8)
    one, other = (corruption("frost", textures=folder_of(tmp_path / name, picture)) for name in "ab")
    assert describe(one).params == describe(other).params
    assert "textures" not in describe(one).params
    folder_of(tmp_path / "b", picture + 1)
    assert describe(corruption("frost", textures=str(tmp_path / "b"))).params != describe(one).params
    with pytest.raises(ConfigError, match="expected the folder of pictures that was used then, got none"):
        build("corruption", "frost", describe(one).params)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected a folder of pictures, got nowhere"):
        corruption("frost", textures="nowhere")
    with pytest.raises(DataError, match=r"files in .*, got none"):
        corruption("frost", textures=str(tmp_path))
    (tmp_path / "frost.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot be read"):
        corruption("frost", textures=str(tmp_path))(torch.zeros(1, 3, 32, 32), rng=Rng(0))


def test_drawn_pictures_have_the_tones_of_the_photographs():
    for picture, (tone, std) in zip(drawn(), TONES, strict=True):
        assert torch.allclose(picture.mean((1, 2)) * 255, torch.tensor(tone).float(), atol=4)
        assert abs(float(picture.mean(0).std()) * 255 - std) < 0.15 * std


def test_the_spectrum_of_drawn_pictures_falls_like_that_of_the_photographs():
    for picture in drawn():
        grey = picture.mean(0)[:224, :224].double().numpy()
        power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(224), np.hanning(224)))) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(224), np.fft.fftfreq(224)))
        middle = (frequency > 2 / 224) & (frequency < 0.5)
        slope = np.polyfit(np.log(frequency[middle]), np.log(power[middle]), 1)[0]
        # from -1.7 to -2.4 for the photographs
        assert -2.7 < slope < -1.4


def test_frost_differs_between_images():
    frost = corruption("frost", severity=3)(torch.zeros(6, 3, 32, 32), rng=Rng(0))
    assert len({tuple(image.flatten().tolist()) for image in frost}) == 6
