"""What metrics and missing numbers are called."""

import pytest

from reports.tables import Number, title_of
from robust_eval.findings import Check
from robust_eval.results.names import check_names, metric_text, verdict_in, verdict_text


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("nll", "NLL"),
        ("calibration_error", "Expected calibration error (ECE)"),
        ("median_distance", "Median distance"),
        ("top_5_accuracy", "Top 5 accuracy"),
    ],
)
def test_a_heading_keeps_the_capitals_of_an_abbreviation(metric, title):
    assert title_of(metric) == title
    assert metric_text(metric)[1:] == title[1:]


def test_what_no_model_could_be_certified_for_is_a_dash():
    def text(metric):
        return Number(metric, None, None, None, 5, "ok", "key").full

    assert text("certified_accuracy") == "–"
    assert text("median_distance") == "not found" and text("anything") == "undefined"


def test_checks_that_were_raised_are_written_and_read_back():
    checks = [
        Check("a", "ok", 0.0, ""),
        Check("b", "warn", 0.0, ""),
        Check("c", "fail", 0.0, ""),
        Check("c", "warn", 0.0, ""),
        Check.not_made("d", ValueError("x")),
    ]
    text = verdict_text(checks)
    assert text == "b;c!;d (not made)" and check_names(text) == ["b", "c", "d"]
    assert [verdict_in(part) for part in ("ok", "d (not made)", "b;d (not made)", text)] == [
        "ok", "not_made", "warn", "fail"
    ]  # fmt: skip
