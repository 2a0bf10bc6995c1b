import io

import numpy as np
import pytest
from PIL import Image

from robust_eval.data import open_source
from robust_eval.data._seen import as_seen
from robust_eval.errors import DataError

RED, GREEN = (255, 0, 0), (0, 255, 0)


def seen(image, ending="PNG", *, colour=True, upright=True, **options):
    """Write an image to a file and look at it."""
    file = io.BytesIO()
    image.save(file, ending, **options)
    with Image.open(io.BytesIO(file.getvalue())) as opened:
        return as_seen(opened, colour=colour, upright=upright)


def two_pixels(mode, first, second):
    image = Image.new(mode, (2, 1))
    image.putpixel((0, 0), first)
    image.putpixel((1, 0), second)
    return image


def test_a_palette_is_looked_up():
    image = two_pixels("RGB", RED, GREEN).convert("P", palette=Image.Palette.ADAPTIVE)
    assert image.mode == "P"
    assert [seen(image).getpixel((i, 0)) for i in (0, 1)] == [RED, GREEN]


@pytest.mark.parametrize(
    ("alpha", "shown"), [(255, (255, 0, 0)), (0, (255, 255, 255)), (51, (255, 204, 204))]
)
def test_what_is_transparent_lies_on_white(alpha, shown):
    assert seen(Image.new("RGBA", (1, 1), (*RED, alpha))).getpixel((0, 0)) == shown


def test_a_colour_that_a_palette_calls_clear_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    shown = seen(image, transparency=1)
    assert [shown.getpixel((i, 0)) for i in (0, 1)] == [RED, (255, 255, 255)]


def test_clear_grey_stays_grey():
    shown = seen(Image.new("LA", (1, 1), (0, 0)), colour=False)
    assert (shown.mode, shown.getpixel((0, 0))) == ("L", 255)


@pytest.mark.parametrize(("value", "level"), [(0, 0), (65535, 255), (32768, 128), (4000, 16), (65407, 255)])
def test_sixteen_bits_are_scaled_by_their_white(value, level):
    shown = seen(Image.fromarray(np.full((1, 1), value, np.uint16)), colour=False)
    assert (shown.mode, shown.getpixel((0, 0))) == ("L", level)


def test_printing_colours_are_turned_into_those_of_a_screen():
    near = seen(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100).getpixel((4, 4))
    assert np.abs(np.subtract(near, RED)).max() <= 3


@pytest.mark.parametrize(("orientation", "first"), [(1, RED), (3, GREEN), (2, GREEN)])
def test_the_rotation_that_a_camera_noted_is_carried_out(orientation, first):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = two_pixels("RGB", RED, GREEN)
    assert seen(image, exif=exif).getpixel((0, 0)) == first
    assert seen(image, exif=exif, upright=False).getpixel((0, 0)) == RED


def test_a_turned_image_has_its_sides_exchanged_in_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    two_pixels("RGB", RED, GREEN).save(tmp_path / "a/1.png", exif=exif)
    assert open_source(str(tmp_path)).test(None).shape == (3, 2, 1)


@pytest.mark.parametrize("values", [np.full((1, 1), 0.5, np.float32), np.full((1, 1), 70000, np.int32)])
def test_values_without_a_known_white_are_refused(tmp_path, values):
    (tmp_path / "a").mkdir()
    Image.fromarray(values).save(tmp_path / "a/1.tif")
    with pytest.raises(DataError, match=r"1\.tif is no image that can be read"):
        open_source(str(tmp_path)).test(None)
