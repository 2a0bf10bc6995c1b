import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.threat import Threat, parse_number, parse_radius, threat_text


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), (" 8 / 255 ", 8 / 255), ("0.5", 0.5), ("1e-3", 0.001), ("2", 2.0)]
)
def test_fractions_and_decimals_are_numbers(text, value):
    assert parse_number(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["", "eight", "1/0", "8/", "nan", "1/2/3"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="expected a number or a fraction such as '8/255'"):
        parse_number(text)


@pytest.mark.parametrize("value", [3, 0.5, None, [1]])
def test_what_is_no_text_passes_unchanged(value):
    assert parse_number(value) is value


@pytest.mark.parametrize(("norm", "distance"), [("linf", 0.4), ("l2", 0.5), ("l1", 0.7)])
def test_the_distance_of_a_three_four_five_triangle(norm, distance):
    x = torch.full((2, 1, 1, 3), 0.5)
    other = x + torch.tensor([0.3, -0.4, 0.0])
    torch.testing.assert_close(
        Threat(norm, None).distance(x, other),
        torch.full((2,), distance, dtype=torch.float64),
        rtol=1e-6,
        atol=0,
    )


def test_a_distance_is_measured_in_float64_example_by_example():
    x = torch.zeros(3, 3, 100, 100)
    other = x.clone()
    other[1] = 1e-4
    for norm, distance in (("linf", 1e-4), ("l2", 1e-4 * 30_000**0.5), ("l1", 3.0)):
        got = Threat(norm, None).distance(x, other)
        assert got.dtype == torch.float64
        assert got.tolist() == pytest.approx([0, distance, 0], rel=1e-6)


def test_l0_counts_pixels_and_not_their_channels():
    x = torch.full((3, 3, 4, 4), 0.5)
    other = x.clone()
    other[1, :, 0, 0] = 1.0  # one pixel, three values
    other[2, 0, 1, 1] += 1e-6  # three pixels, four values
    other[2, 1:, 2, 2] = 0.0
    other[2, 2, 3, 3] = 1.0
    got = Threat("l0", None).distance(x, other)
    assert got.dtype == torch.float64 and got.tolist() == [0, 1, 3]


def test_an_l0_radius_is_a_whole_number_of_pixels():
    assert Threat("l0", 10.0).eps == 10.0
    with pytest.raises(ConfigError, match=r"eps: expected a whole number of pixels in l0, got 0\.5"):
        Threat("l0", 0.5)


@pytest.mark.parametrize(
    ("norm", "eps", "text"),
    [
        ("l0", 10.0, "l0 10 pixels"),
        ("l0", 1.0, "l0 1 pixel"),
        (
            "l0 within a mask of 5 % of the pixels 0a1b",
            3.0,
            "l0 3 pixels within a mask of 5 % of the pixels 0a1b",
        ),
        ("l0", None, "l0 minimal"),
        ("linf", 8 / 255, "linf 8/255"),
    ],
)
def test_a_threat_is_spoken_of_in_its_unit(norm, eps, text):
    assert threat_text(norm, eps) == text


@pytest.mark.parametrize(
    ("value", "radius"), [("8/255", 8 / 255), (2, 2.0), ("-1", None), ("nan", None), ("a", None)]
)
def test_a_radius_is_a_finite_number_that_is_not_negative(value, radius):
    assert parse_radius(value) == radius
