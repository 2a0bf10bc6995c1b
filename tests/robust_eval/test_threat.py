import pytest
import torch

from robust_eval.threat import Threat, parse_number


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
